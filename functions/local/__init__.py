"""One machine: activator, broker, uploads and timers over the manifests."""
