"""From the text of `<id>.yaml` to a `Spec`, and back: one strict door.

YAML is far more than a spec needs.  Anchors and aliases (a few lines that unfold to
gigabytes), tags (objects), a name said twice (the last one would win, unseen), and
YAML 1.1's guesses (`no` is false, `1:30` is ninety, `010` is eight) are all refused
or read as the text they are.  Every fault is reported together, by the path of the
field it is in.
"""

from __future__ import annotations

import re
import types
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from functions.problems import InvalidRequest
from functions.roster.spec import Impossible, Spec, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import yaml

    from functions.tenant import Tenant

BYTES_MAX: Final = 64 * 1024
DEPTH_MAX: Final = 8
FAULTS_MAX: Final = 100
_SHOWN_CHARACTERS_MAX: Final = 64
_UNSEEN: Final = "\N{REPLACEMENT CHARACTER}"
_SCALARS: Final = (
    ("tag:yaml.org,2002:null", r"~|null|", ("~", "n", "")),
    ("tag:yaml.org,2002:bool", r"true|false", ("t", "f")),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]{0,18})", tuple("-0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"-?(?:0|[1-9][0-9]{0,18})\.[0-9]{1,18}",
        tuple("-0123456789"),
    ),
)
"""What is no text, and how it may begin: YAML 1.2's core, without its oddities."""


class InvalidSpec(InvalidRequest):
    """A tenant's spec that cannot be; `faults` has every reason."""

    title = "Invalid spec"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(map(_one_line, faults))
        super().__init__("; ".join(self.faults))


def parse(text: bytes, *, tenant: Tenant) -> Spec:
    """Return the spec in the file `<id>.yaml` of `tenant`, or raise `InvalidSpec`."""
    return of_plain(document(text), tenant=tenant)


def of_plain(document: object, *, tenant: Tenant) -> Spec:
    """Return the spec of `tenant` that plain data says, or raise `InvalidSpec`."""
    found = list(_faults(Spec, document, ""))[:FAULTS_MAX]
    if isinstance(document, dict) and document.get("id", tenant.id) != tenant.id:
        found.append(f"id: it is {_shown(document['id'])} in the file of {tenant.id!r}")
    if found:
        raise InvalidSpec(found)
    try:
        return msgspec.convert(document, Spec)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        reasons = cause.faults if isinstance(cause, Impossible) else (str(error),)
        raise InvalidSpec(reasons) from error


def write(spec: Spec) -> bytes:
    """Return a spec as YAML, every field said, so that nothing has to be looked up."""
    import yaml

    text: str = yaml.safe_dump(
        plain(spec), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text.encode()


# --- YAML --------------------------------------------------------------------


def document(text: bytes) -> object:
    """Return what YAML says as plain data, or raise `InvalidSpec`."""
    if len(text) > BYTES_MAX:
        raise InvalidSpec([f"a spec has at most {BYTES_MAX} bytes"])
    import yaml

    try:
        loader = _loader()(text.decode())
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise InvalidSpec([f"{where}{error.problem or 'no YAML'}"]) from error
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise InvalidSpec([f"no YAML: {type(error).__name__}"]) from error


def _loader() -> type[yaml.SafeLoader]:
    """Return the loader; its library is imported when the first spec is read."""
    import yaml
    from yaml.nodes import MappingNode, ScalarNode

    class Loader(yaml.SafeLoader):
        """YAML without what it takes to be clever."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as its base
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # as its base
            """Return the next node; anchors, aliases, tags and depths are refused."""
            event = self.peek_event()  # type: ignore[no-untyped-call]  # its stubs say nothing
            if getattr(event, "anchor", None) is not None:
                raise _at(event, "anchors and aliases are not read here")
            if getattr(event, "tag", None) is not None:
                raise _at(event, "tags are not read here")
            self.depth += 1
            if self.depth > DEPTH_MAX:
                raise _at(event, f"nested over {DEPTH_MAX} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002  # as its base
            """Return a mapping of texts; one that comes twice is refused."""
            names: set[str] = set()
            for key, _ in node.value if isinstance(node, MappingNode) else ():
                if not isinstance(key, ScalarNode) or key.tag != _TEXT:
                    raise _at(key, "a field's name is text")
                if key.value in names:
                    raise _at(key, f"{_shown(key.value)} comes twice")
                names.add(key.value)
            return super().construct_mapping(node, deep)

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(tag, re.compile(rf"(?:{pattern})\Z"), first)
    return Loader


_TEXT: Final = "tag:yaml.org,2002:str"


def _at(where: Any, problem: str) -> Exception:  # noqa: ANN401  # an event or a node
    import yaml

    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


# --- types -------------------------------------------------------------------


def _faults(kind: Any, value: object, path: str) -> Iterator[str]:  # noqa: ANN401  # a type
    """Yield each field of `value` that is not what `kind` asks for."""
    part = _part(kind)
    if part is not None and isinstance(value, dict):
        yield from _struct_faults(part, value, path)
        return
    if part is kind:
        yield f"{path or 'a spec'}: is not a mapping of fields"
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        inner = where.rstrip("`")
        yield f"{path}{inner}: {_lower(text)}{_given(value)}"


def _struct_faults(
    kind: type[msgspec.Struct], value: Mapping[str, object], path: str
) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    dot = f"{path}." if path else ""
    for name in value:
        if name not in hints:
            yield f"{dot}{_plainly(name)}: no such field"
    for field in msgspec.structs.fields(kind):
        if field.name in value:
            yield from _faults(hints[field.name], value[field.name], dot + field.name)
        elif field.required:
            yield f"{dot}{field.name}: it must be said"


def _part(kind: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401  # a type
    """Return the struct that `kind` is, or that is one of what it may be."""
    if get_origin(kind) in {Union, types.UnionType}:
        return next((part for each in get_args(kind) if (part := _part(each))), None)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return None


def _given(value: object) -> str:
    """Return what was given, where it is short enough to say."""
    return f" (it is {_shown(value)})" if isinstance(value, str | int | float) else ""


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:60] + "…"


def _plainly(name: str) -> str:
    """Return a stranger's field name so that no terminal obeys it."""
    return _shown(name)[1:-1] if name.isprintable() else _shown(name)


def _one_line(text: str) -> str:
    """Return a fault as one line of a log, whatever the file had in it."""
    return "".join(each if each.isprintable() else _UNSEEN for each in text)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
