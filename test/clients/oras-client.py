"""Drives the oras package: oras-client.py push|push-chunked|pull|attach|tags|delete <reference> [<file or folder>]"""

import json
import os
import sys

import oras.client
import oras.oci

command, reference, *rest = sys.argv[1:]
client = oras.client.OrasClient(insecure=True)
if command == "push":
    result = client.push(target=reference, files=rest).status_code
elif command == "push-chunked":
    result = client.push(target=reference, files=rest, do_chunked=True, chunk_size=30_000).status_code
elif command == "pull":
    result = client.pull(target=reference, outdir=rest[0])
elif command == "attach":
    manifest = client.get_manifest(client.get_container(reference))
    subject = oras.oci.Subject.from_manifest(manifest)
    target = f"{reference}-attached"
    response = client.push(target=target, files=rest, subject=subject)
    result = response.headers.get("OCI-Subject")
elif command == "tags":
    result = client.get_tags(reference)
elif command == "delete":
    name, tag = reference.rsplit(":", 1)
    result = client.delete_tags(name, [tag])
else:
    sys.exit(__doc__)
print(json.dumps(result))
