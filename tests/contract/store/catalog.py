"""What a database's schema is, as plain rows that can be compared."""

from __future__ import annotations

import asyncpg

COLUMNS = """
SELECT c.relname::text, c.relkind::text, c.reloptions::text[], a.attname::text,
    format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull, a.attidentity::text,
    a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid) AS preset,
    pg_get_partkeydef(c.oid) AS partitioned, pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE n.nspname = 'public' ORDER BY 1, a.attnum
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3
"""
INDEXES = "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
SEQUENCES = """
SELECT sequencename::text, data_type::text, start_value, increment_by, cycle
FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1
"""
FUNCTIONS = """
SELECT proname::text, pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2
"""


async def read_catalog(connection: asyncpg.Connection) -> dict[str, list[tuple]]:
    kinds = {
        "columns": COLUMNS,
        "constraints": CONSTRAINTS,
        "indexes": INDEXES,
        "sequences": SEQUENCES,
        "functions": FUNCTIONS,
    }
    return {
        name: [tuple(row) for row in await connection.fetch(sql)] for name, sql in kinds.items()
    }
