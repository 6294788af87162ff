#!/bin/sh
# Writes what the nodes of compose.yaml need into a folder: the authority, certificates, keys, nodes.toml, and each node's config.
# What is there already stays. An operator does the same by hand, node by node: docs/operations.md.
#
#   prepare.sh FOLDER WORLD
set -eu
folder=$1 world=$2
umask 077
mkdir -p "$folder"
cp "$world" "$folder/world.toml"
cd "$folder"

[ -f ca/ca.pem ] || hearth admin ca init --dir ca
hearth admin keys init --dev --dir keys

: > nodes.toml
node() { # region role name host
    home=$1-$2-$3
    [ -f "$home/node.pem" ] || hearth admin ca issue --dir ca --node "$1/$2/$3" --world world.toml --out "$home"
    printf '[[node]]\nid = "%s/%s/%s"\nmesh = "%s:7400"\n' "$1" "$2" "$3" "$4" >> nodes.toml
    printf 'node = "%s/%s/%s"\nworld = "../world.toml"\nnodes = "../nodes.toml"\n' "$1" "$2" "$3" > "$home/config.toml"
}

datacenter() { # region: its datacenter, and the server in it, are called after it
    for n in 1 2; do
        node "$1" core "$n" "$1-core-$n"
        cat >> "$1-core-$n/config.toml" <<END
[store]
contact_points = ["$1-store:9042"]
datacenters = { eu-west = "eu-west", us-east = "us-east", ap-south = "ap-south" }
# One server in each datacenter: enough to see it work. Three, with copies = 3, for people.
copies = 1
dialect = "scylla"
wait_seconds = 300
END
    done
    node "$1" edge 1 "$1-edge"
    # As the one who runs docker reaches it.
    printf 'url = "http://127.0.0.1:%s"\n' "$2" >> nodes.toml
    # dev_tokens: `hearth token` speaks for any user. Leave it out where people are, and name their identity provider in the world.
    printf '[auth]\nkeys = "../keys"\ndev_tokens = true\n' >> "$1-edge-1/config.toml"
}

datacenter eu-west 8081
datacenter us-east 8082
datacenter ap-south 8083
