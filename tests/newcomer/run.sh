#!/usr/bin/env bash
# Builds Sentinel, brings a browser and what drives it, and lets a newcomer loose on /docs (journey.cjs). What it leaves
# when it fails: a picture of the page and Sentinel's log.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v chromium >/dev/null; then tests/debian.sh chromium; fi
if ! command -v npm >/dev/null; then tests/debian.sh nodejs npm; fi
tools=.venv/newcomer
if ! [ -d "$tools/node_modules/playwright-core" ]; then
  mkdir -p "$tools"
  npm install --prefix "$tools" --no-audit --no-fund --silent playwright-core@1.65.1
fi
cargo build --bin sentinel

folder=target/tmp/newcomer
rm -rf "$folder"
mkdir -p "$folder"
NODE_PATH="$PWD/$tools/node_modules" node tests/newcomer/journey.cjs \
  "${CARGO_TARGET_DIR:-target}/debug/sentinel" "$(command -v chromium)" "$folder"
