"""`mainspring version`."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Print, switch
from mainspring.cli.output import Table, print_documents, print_tables


def version(
    *,
    server: Annotated[bool, switch("Ask the server for its version too.")] = False,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Prints versions."""
    facts = {"client": installed_version("mainspring")}
    if server:
        with connection.client() as client:
            info = client.admin.server_info()
        facts |= {"server": info.version, "cluster": info.cluster, "node": info.node}
    if output.format != "table":
        print_documents(output.format, [facts])
        return
    table = Table()
    for name, fact in facts.items():
        table.add("mainspring" if name == "client" else name, fact)
    print_tables([table])
