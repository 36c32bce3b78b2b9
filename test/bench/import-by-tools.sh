#!/bin/bash
# The import that a user would write with common tools, in the current folder:
#   import-by-tools.sh plain|tuned URL NAME HOST/REPOSITORY:TAG
# NAME says what the URL holds. `plain` uses the tools as their manuals show first; `tuned` all
# options that make them faster, sparse scratch files among them. Scratch files are left behind.
set -euo pipefail
style=$1 url=$2 name=$3 target=$4
mkdir -p disk oci/blobs/sha256

fetch() { curl -sSf "$url"; }
# Clusters of zeros become holes, which qemu-img then need not read.
sparse() { dd of=disk.raw bs=64K iflag=fullblock conv=sparse status=none; }

case $style:$name in
  *.qcow2) fetch >disk/disk.qcow2 ;;
  *.iso) fetch >disk/disk.iso ;;
  plain:*.raw) fetch >disk.raw ;;
  plain:*.gz) fetch | gzip -dc >disk.raw ;;
  *.xz) fetch | xz -dc -T0 >disk.raw ;;
  plain:*.zst) fetch | zstd -dcq >disk.raw ;;
  tuned:*.raw) fetch | sparse ;;
  tuned:*.gz) fetch | if command -v igzip >/dev/null; then igzip -dc; else gzip -dc; fi | sparse ;;
  tuned:*.zst) fetch | zstd -dcq --sparse >disk.raw ;;
  *) echo "$0: cannot import $name" >&2 && exit 2 ;;
esac

if [ -e disk.raw ]; then
  case $style in
    plain) options= ;;
    tuned) options="-o compression_type=zstd -m $(nproc) -W" ;;
  esac
  qemu-img convert -f raw -O qcow2 -c $options disk.raw disk/disk.qcow2
fi

# The layer is written once, where the OCI layout wants it, and hashed on the way.
layer=$(tar -c disk | tee oci/blobs/sha256/layer | sha256sum | cut -c-64)
layer_size=$(stat -c %s oci/blobs/sha256/layer)
mv oci/blobs/sha256/layer "oci/blobs/sha256/$layer"

put() {
  digest=$(printf %s "$1" | sha256sum | cut -c-64)
  printf %s "$1" >"oci/blobs/sha256/$digest"
}
oci=application/vnd.oci.image
put '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:'"$layer"'"]}}'
config='{"mediaType":"'$oci.config.v1+json'","digest":"sha256:'$digest'","size":'$(stat -c %s "oci/blobs/sha256/$digest")'}'
put '{"schemaVersion":2,"mediaType":"'$oci.manifest.v1+json'","config":'$config',"layers":[{"mediaType":"'$oci.layer.v1.tar'","digest":"sha256:'$layer'","size":'$layer_size'}]}'
manifest='{"mediaType":"'$oci.manifest.v1+json'","digest":"sha256:'$digest'","size":'$(stat -c %s "oci/blobs/sha256/$digest")'}'
echo '{"schemaVersion":2,"manifests":['"$manifest"']}' >oci/index.json
echo '{"imageLayoutVersion":"1.0.0"}' >oci/oci-layout

skopeo --insecure-policy copy -q --preserve-digests --dest-tls-verify=false oci:oci "docker://$target"
