#!/bin/sh
# Builds the Go programs that tests and benchmarks drive: go-tools.sh <tool>…
# Pinned here, built from source by module path through the Go module proxy, kept outside the tree in
# ${XDG_CACHE_HOME:-~/.cache}/dvcr-test/bin; a tool that is there in its version costs nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/dvcr-test/bin
client=$here/../test/clients/oras
# The newest that a tool below asks for in its go.mod; where it must be fetched, this one is.
needed_go=1.26
fetched_go=1.26.8
say() { echo "go-tools: $*"; }

# Package and version of a tool; for our own program its folder and a hash of its sources.
describe() {
  case $1 in
    versitygw) package=github.com/versity/versitygw/cmd/versitygw version=v1.8.0 ;;
    distribution) package=github.com/distribution/distribution/v3/cmd/registry version=v3.1.2 ;;
    crane) package=github.com/google/go-containerregistry/cmd/crane version=v0.22.1 ;;
    regctl) package=github.com/regclient/regclient/cmd/regctl version=v0.11.7 ;;
    minio) package=github.com/minio/minio version=v0.0.0-20260212201848-7aac2a2c5b7c ;;
    oras-client)
      package=$client
      version=$(cat "$client/go.mod" "$client/go.sum" "$client"/*.go | cksum | tr ' ' -)
      ;;
    *)
      say "no such tool: $1; known: versitygw distribution crane regctl minio oras-client" >&2
      exit 1
      ;;
  esac
}

version_of() { "$1" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p'; }
is_enough() { [ "$(printf '%s\n' "$needed_go" "$1" | sort -V | head -n 1)" = "$needed_go" ]; }

install_go() {
  install='apt-get install -y --no-install-recommends golang-go'
  if ! command -v apt-get >/dev/null; then
    say "building $1 needs Go: install it, $needed_go or newer, from https://go.dev/dl/" >&2
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    say "building $1 needs Go, which only root may install: sudo $install" >&2
    exit 1
  fi
  say 'installing Go (apt-get install golang-go)'
  export DEBIAN_FRONTEND=noninteractive
  $install </dev/null >/dev/null 2>&1 || {
    apt-get update -q </dev/null >/dev/null
    $install -q </dev/null >/dev/null
  }
}

# Sets `go` to a Go that is new enough. An older one can fetch it: toolchains are modules too.
find_go() {
  go=
  for candidate in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
    found=$(command -v "$candidate") || continue
    go=$found
    if is_enough "$(version_of "$found")"; then return; fi
  done
  if [ -z "$go" ]; then
    install_go "$1"
    go=$(command -v go)
    if is_enough "$(version_of "$go")"; then return; fi
  fi
  if [ "${GOTOOLCHAIN:-}" = local ]; then
    say "building $1 needs Go $needed_go or newer, and GOTOOLCHAIN=local allows only $(version_of "$go"): unset GOTOOLCHAIN" >&2
    exit 1
  fi
  say "$go is Go $(version_of "$go"): fetching Go $fetched_go"
  module=golang.org/toolchain@v0.0.1-go$fetched_go.$("$go" env GOOS)-$("$go" env GOARCH)
  (cd / && GO111MODULE=on GOTOOLCHAIN=local "$go" mod download "$module")
  folder=$("$go" env GOMODCACHE)/$module
  # Modules are stored without the right to run them.
  chmod +x "$folder"/bin/* "$folder"/pkg/tool/*/*
  go=$folder/bin/go
}

build() {
  tool=$1
  describe "$tool"
  if [ -x "$bin/$tool-$version" ] && [ "$(readlink "$bin/$tool")" = "$tool-$version" ]; then return; fi
  mkdir -p "$bin"
  if [ ! -x "$bin/$tool-$version" ]; then
    [ -n "${go:-}" ] || find_go "$tool"
    say "building $tool ${version%%-*} (once; some minutes)"
    # Beside its final place, where a rename is one step: two runs may build at once.
    built=$(mktemp -d "$bin/.build-XXXXXX")
    trap 'rm -rf "$built"' EXIT
    case $package in
      /*) (cd "$package" && CGO_ENABLED=0 "$go" build -trimpath -o "$built/program" .) ;;
      *)
        CGO_ENABLED=0 GOBIN=$built "$go" install -trimpath "$package@$version"
        mv "$built/${package##*/}" "$built/program"
        ;;
    esac
    mv "$built/program" "$bin/$tool-$version"
    rm -rf "$built"
  fi
  ln -sfn "$tool-$version" "$bin/$tool"
}

for tool in "$@"; do build "$tool"; done
