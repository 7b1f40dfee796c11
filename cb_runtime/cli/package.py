"""`cb package`: sign packages, and check what was signed."""

from __future__ import annotations

from pathlib import Path

import click

from cb_runtime.cli.console import Report, reporting

FILE = click.Path(path_type=Path)


@click.group()
def package() -> None:
    """Sign packages (.cbx) with ed25519 keys, and check them."""


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


package.add_command(keygen)
package.add_command(sign)
package.add_command(verify)
