#!/bin/sh
# Set-up, then one real import on this machine:
#   npm run quickstart [-- <url or file>] [-- --once] [-- --listen 127.0.0.1:5001]
set -eu
here=$(dirname "$0")
sh "$here/setup.sh" quickstart
exec "$here/../node_modules/.bin/node" "$here/quickstart.ts" "$@"
