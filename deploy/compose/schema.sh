#!/bin/sh
# Temporal's two databases; repeating it changes nothing.
set -eu
for pair in temporal:temporal temporal_visibility:visibility; do
    database=${pair%%:*} schema=${pair##*:}
    temporal-sql-tool --db "$database" create-database
    temporal-sql-tool --db "$database" setup-schema -v 0.0 || true # stands already
    temporal-sql-tool --db "$database" update-schema --schema-name "postgresql/v12/$schema"
done
