"""Every command and its options; what each does is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated, Literal

import typer

from functions.cli.audit.commands import audit
from functions.cli.bill.commands import bill
from functions.cli.jobs.commands import jobs
from functions.cli.keys.commands import keys
from functions.cli.models.commands import release
from functions.cli.models.commands.making import making
from functions.cli.options import HOME, Home, Json
from functions.cli.tenant.commands import tenant as tenants

app = typer.Typer(
    name="guise",
    help="A face-swap cloud that can be audited.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
packs = typer.Typer(no_args_is_help=True, help="Packs of models.")
app.add_typer(packs, name="models")
app.add_typer(jobs, name="jobs")
app.add_typer(keys, name="keys")
app.add_typer(audit, name="audit")
app.add_typer(bill, name="bill")
app.add_typer(tenants, name="tenant")
packs.add_typer(making)
packs.add_typer(release)

Out = Annotated[Path, typer.Option("--out", "-o", help="Where the output goes.")]
Url = Annotated[
    str,
    typer.Option(help="A door to ask; without it, this machine's own stack."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="A file with the bearer token, for --url."),
]
Models = Annotated[
    Path | None,
    typer.Option("--models", help="A prepared pack to run; without it, the lite one."),
]


@app.command()
def up(
    home: Home = HOME,
    port: Annotated[
        int,
        typer.Option(help="The door's; the next four follow.", min=0, max=65531),
    ] = 8080,
    idle: Annotated[float, typer.Option(help="Seconds until a service sleeps.")] = 30.0,
    tenant: Annotated[
        str, typer.Option(help="Whose token is written; made where there is no such.")
    ] = "demo",
    models: Models = None,
    store: Annotated[
        str,
        typer.Option(help="The URL of the tenants' stores; else, folders in --home."),
    ] = "",
    *,
    json: Json = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    Services sleep until they are asked.
    """
    from functions.cli.serve import run

    run(
        home,
        port=port,
        idle_seconds=idle,
        tenant=tenant,
        models=models,
        store=store,
        json=json,
    )


@app.command()
def status(home: Home = HOME, *, json: Json = False) -> None:
    """Show services, processes, the queue and dead letters.

    It wakes nothing.
    """
    from functions.cli.serve import show_status

    show_status(home, json=json)


@app.command()
def replay(
    letter: Annotated[int, typer.Argument(help="A dead letter's number.")],
    home: Home = HOME,
    *,
    json: Json = False,
) -> None:
    """Send a dead letter again."""
    from functions.cli.serve import replay_letter

    replay_letter(home, letter, json=json)


@app.command()
def swap(
    source: Annotated[
        list[Path],
        typer.Argument(help="Pictures of the face.", metavar="SOURCE"),
    ],
    target: Annotated[
        Path, typer.Argument(help="What it is put onto.", metavar="TARGET")
    ],
    out: Out,
    consent: Annotated[
        Literal["consent", "contract", "public-domain", "own-likeness"],
        typer.Option(help="On what ground the source's face may be used."),
    ],
    record: Annotated[
        str,
        typer.Option(help="The consent record, e.g. consents/42.json."),
    ] = "",
    faces: Annotated[
        str,
        typer.Option(help="all, largest, an index as detect gives it, or a place X,Y."),
    ] = "largest",
    quality: Annotated[int, typer.Option(min=1, max=100)] = 92,
    weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="How much of the identity is SOURCE's."),
    ] = None,
    mask: Annotated[
        Literal["box", "hull", "occlusion"],
        typer.Option(help="Where the new face may show."),
    ] = "box",
    upscale: Annotated[
        Literal["2", "4"] | None,
        typer.Option(help="How many times as large the output is."),
    ] = None,
    url: Url = "",
    token_file: TokenFile = None,
    models: Models = None,
    home: Home = HOME,
    *,
    restore: Annotated[
        bool | None,
        typer.Option(
            "--restore/--no-restore",
            help="Restore the new faces; as the pack's tier has it, unless said.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Put the face of SOURCE onto TARGET.

    SOURCE is one or more pictures of the same face.
    """
    from functions.cli.work import Place, swap_faces

    swap_faces(
        Place(home, url, token_file, json=json, models=models),
        source,
        target,
        out,
        faces=faces,
        options={
            "quality": quality,
            "weight": weight,
            "mask": mask,
            "restore": restore,
            "upscale": upscale and int(upscale),
        },
        consent={"basis": consent} | ({"record": record} if record else {}),
    )


@app.command()
def anonymize(
    image: Annotated[
        list[Path],
        typer.Argument(help="Photographs, folders of them, or globs."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="A file for one photograph, a folder otherwise."
        ),
    ],
    cover: Annotated[
        Literal["blur", "mosaic", "box"],
        typer.Option(help="How a face is covered."),
    ] = "blur",
    keep: Annotated[
        list[Path] | None,
        typer.Option(help="A picture of somebody to leave as they are; repeat it."),
    ] = None,
    url: Url = "",
    token_file: TokenFile = None,
    models: Models = None,
    home: Home = HOME,
    *,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders in folders, too.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write over outputs that exist.")
    ] = False,
    json: Json = False,
) -> None:
    """Cover every face in photographs for good.

    Exit 1 if any could not be done.
    """
    from functions.cli.anonymize import Covering, anonymize_all
    from functions.cli.work import Place

    failed = anonymize_all(
        Place(home, url, token_file, json=json, models=models),
        image,
        out,
        Covering(cover, keep or ()),
        recursive=recursive,
        force=force,
    )
    raise typer.Exit(failed)


@app.command()
def detect(
    image: Annotated[Path, typer.Argument(help="The photograph.")],
    url: Url = "",
    token_file: TokenFile = None,
    models: Models = None,
    home: Home = HOME,
    *,
    json: Json = False,
) -> None:
    """Show where the faces are, and the indices that the others use."""
    from functions.cli.work import Place, detect_faces

    detect_faces(Place(home, url, token_file, json=json, models=models), image)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A JPEG, PNG or WebP.")],
    trust: Annotated[
        Path | None,
        typer.Option(help="A file with further trusted roots, as PEM."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="A file with the log's verifier keys, one a line."),
    ] = None,
    home: Home = HOME,
    *,
    json: Json = False,
) -> None:
    """Show what a picture says of itself.

    Exit 0 only if all of it verifies.
    """
    from functions.cli.inspect import inspect_file

    inspect_file(file, home, trust, key, json=json)


@app.command()
def demo(home: Home = HOME, *, json: Json = False) -> None:
    """Swap a face in a photograph, and tell what happens.

    Through the real functions, in a real photograph.
    """
    from functions.cli.demo import run

    run(home, json=json)


@packs.command("pull")
def pull(
    pack: Annotated[str, typer.Argument(help="A pack of the catalogue, e.g. lite.")],
    root: Annotated[Path, typer.Option(help="Where packs lie.")] = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """Fetch, convert and verify a pack, unless it is there."""
    from functions.cli.models.packs import pull_pack

    pull_pack(pack, root, json=json)


@packs.command("list")
def list_(
    root: Annotated[Path, typer.Option(help="Where packs lie.")] = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """List the packs, their licences, and whether they verify."""
    from functions.cli.models.packs import list_packs

    list_packs(root, json=json)


@packs.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="A prepared pack.")],
    trust: Annotated[
        Path | None,
        typer.Option(help="A folder with publisher.pem and approver.pem."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Check every byte of a pack, and with --trust who signed it."""
    from functions.cli.models.packs import verify_pack

    verify_pack(folder, trust, json=json)
