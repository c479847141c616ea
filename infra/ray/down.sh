#!/usr/bin/env bash
# Takes down a cluster of machines on site: infra/ray/down.sh infra/ray/onprem.yaml
#
# First the service, so that shards write what is queued and give their memory back. `ray down` then
# stops Ray on the head alone, and some processes of the workers would wait for it for ever.
set -euo pipefail

file=$1
ray exec "$file" 'hyperrag undeploy'
ray down --yes "$file"
python - "$file" << 'END' |
import os, sys, yaml

cluster = yaml.safe_load(open(sys.argv[1]))
user, key = (cluster["auth"][name] for name in ("ssh_user", "ssh_private_key"))
for address in cluster["provider"]["worker_ips"]:
    print(f"{user}@{address}", os.path.expanduser(key))
END
  while read -r login key; do
    ssh -n -i "$key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
      "$login" "bash --login -c 'ray stop'" || echo "down.sh: Ray may still run on $login" >&2
  done
