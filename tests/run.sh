#!/usr/bin/env bash
# Runs every test. Needs no running service: PostgreSQL is a throwaway cluster on a unix socket, the SDKs live in
# virtual environments below .venv/. What is missing is installed; what cannot be installed is an error, never a skip.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  tests/debian.sh postgresql
fi

# name, packages
venv() {
  local folder=.venv/$1 wanted
  shift
  wanted="$*"
  if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ]; then return; fi
  rm -rf "$folder"
  if ! python3 -m venv "$folder" 2>/dev/null; then
    rm -rf "$folder"
    tests/debian.sh python3-venv
    python3 -m venv "$folder"
  fi
  "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
  echo "$wanted" > "$folder/installed"
}
mkdir -p .venv
venv current 'openai>=3' 'anthropic>=2' trustme oidc-provider-mock
venv older 'openai==1.109.1' 'anthropic==0.60.0'
venv api 'schemathesis==4.32.5'
export TEST_PYTHON="$PWD/.venv/current/bin/python"
export TEST_SCHEMATHESIS="$PWD/.venv/api/bin/schemathesis"
export TEST_PYTHON_OLDER="$PWD/.venv/older/bin/python"

scratch=$(mktemp -d)
cleanup() {
  tests/postgres.sh stop "$scratch/postgres" >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap cleanup EXIT
chmod 755 "$scratch"
TEST_POSTGRES=$(tests/postgres.sh start "$scratch/postgres")
export TEST_POSTGRES
# Where psql, pg_ctl of that cluster find it.
export TEST_POSTGRES_DIR="$scratch/postgres"

# A test opens a thousand connections at once.
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt 4096 ]; then ulimit -n 4096; fi

status=0
cargo test --no-fail-fast "$@" 2>&1 | tee "$scratch/output" || status=$?

# `test path::sqlite::name ... ok`
count() { grep -cE "^test .*$1::.* \.\.\. ok\$" "$scratch/output" || true; }
# `test result: ok. 12 passed; 0 failed; …`, one line per test binary.
total() { awk -v word="$1;" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == word) sum += $(i - 1) } END { print sum + 0 }' "$scratch/output"; }
echo "on SQLite: $(count sqlite) tests passed; on PostgreSQL: $(count postgres) tests passed"
echo "$(total passed) passed, $(total failed) failed"
exit "$status"
