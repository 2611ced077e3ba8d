"""A CSV as pandas, Polars and DuckDB read it without options: types of the columns, rows, sums."""
import json
import math
import sys

import duckdb
import pandas
import polars

path = sys.argv[1]


def facts(types, table):
    """`table`: a list of rows (step, arm, layer, head, token, metric, value), missing cells None."""
    finite = [row[6] for row in table if row[6] is not None and math.isfinite(row[6])]
    return {
        "types": types,
        "rows": len(table),
        "sum": math.fsum(finite),
        "finite": len(finite),
        "layers": sorted({int(row[2]) for row in table if row[2] is not None}),
        "by_layer": sum(row[2] is not None for row in table),
        "by_head": sum(row[3] is not None for row in table),
        "by_token": sum(row[4] is not None for row in table),
        "arms": sorted({row[1] for row in table}),
        "metrics": len({row[5] for row in table}),
    }


def numeric(name):
    return "number" if any(word in name.lower() for word in ("int", "float", "double")) else "text"


p = pandas.read_csv(path)
q = polars.read_csv(path)
d = duckdb.sql(f"select * from '{path}'")
clean = [[None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row]
         for row in p.itertuples(index=False)]
print(json.dumps({
    "pandas": facts([numeric(str(t)) for t in p.dtypes], clean),
    "polars": facts([numeric(str(t)) for t in q.dtypes], q.rows()),
    "duckdb": facts([numeric(str(t)) for t in d.types], d.fetchall()),
}))
