"""`cb package`: make packages of several artifacts, sign packages, and check what was signed."""

from __future__ import annotations

from pathlib import Path

import click

from cb_runtime.cli.console import Report, reporting

FILE = click.Path(path_type=Path)


@click.group()
def package() -> None:
    """Make packages (.cbx) of several artifacts, sign them with ed25519 keys, and check them."""


@reporting("create")
@click.argument("file", metavar="PACKAGE", type=FILE)
@click.argument("artifacts", metavar="ARTIFACT...", type=FILE, nargs=-1, required=True)
@click.option("--golden", type=FILE, help="Golden samples of all.  [default: those beside each, e.g. best.golden.npz]")
@click.option("--licence", help="Under which licence the model may be used, for its model card.")
def create(report: Report, file: Path, artifacts: tuple[Path, ...], golden: Path | None, licence: str | None) -> None:
    """Put several ARTIFACTs of one model (.onnx, .engine) into PACKAGE, from which each machine takes the best.

    All must have passed the parity gate, on the same golden samples.
    """
    from cb_runtime.package.writing import package_artifacts

    manifest = package_artifacts(file, artifacts, golden, licence)
    report.print(f"{file}: {manifest.contract.architecture_name}, {file.stat().st_size / 2**20:.1f} MiB")
    for artifact in manifest.artifacts:
        staged = ", in stages too" if manifest.is_staged(artifact) else ""
        report.print(f"  {artifact.folder}: {manifest.members[artifact.file].size / 2**20:.1f} MiB{staged}")
    report.result({"package": str(file), "size": file.stat().st_size, "artifacts": manifest.to_dict()["artifacts"]})


@reporting("keygen")
@click.argument("name", type=FILE)
def keygen(report: Report, name: Path) -> None:
    """Write a new pair of keys: NAME.key to sign with, which you keep, and NAME.pub to check with."""
    from cb_runtime.package.signature import make_keys

    private, public = make_keys(name)
    report.print(f"{private}: keep it secret. {public}: give it to all who check your packages.")
    report.result({"private": str(private), "public": str(public)})


@reporting("sign")
@click.argument("file", metavar="PACKAGE", type=FILE)
@click.option("--key", type=FILE, required=True, help="Private ed25519 key, a PEM file without a password.")
def sign(report: Report, file: Path, key: Path) -> None:
    """Sign PACKAGE, in place of any other signature. Its members stay as they are."""
    from cb_runtime.package.archive import sign_package

    digest = sign_package(file, key)
    report.print(f"{file}: signed, manifest {digest}")
    report.result({"package": str(file), "digest": digest})


@reporting("verify")
@click.argument("file", metavar="PACKAGE", type=FILE)
@click.option("--public-key", type=FILE, help="Ed25519 key that must have signed it.  [default: digests only]")
def verify(report: Report, file: Path, public_key: Path | None) -> None:
    """Prove that PACKAGE is whole and, with a key, who signed it. Its model is not run: `cb verify` does that."""
    from cb_runtime.package import open_package

    opened = open_package(file, public_key)
    signed = f"signed by the key {opened.signer[:16]}" if opened.signer else "signature not checked"
    report.print(f"{file}: {len(opened.manifest.members)} members, all as they were written; {signed}.")
    report.result(
        {"package": str(file), "digest": opened.digest, "signed": opened.signed, "signer": opened.signer, "ok": True}
    )


package.add_command(create)
package.add_command(keygen)
package.add_command(sign)
package.add_command(verify)
