#!/bin/bash
# Runs a command beside a Slurm cluster of its own: a controller and two nodes on loopback, without root, gone afterwards.
#   tests/cluster/serve.sh COMMAND...
# Installs Slurm with apt-get where it is missing. Where it cannot: fails under CI=true, else says so and runs nothing.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v sbatch >/dev/null; then
  as_root=$([ "$(id -u)" = 0 ] || echo "sudo -n")
  if ! { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
         --no-install-recommends slurmctld slurmd slurm-client; } >&2; then
    echo "Slurm is missing and cannot be installed (apt-get install slurmctld slurmd slurm-client)" >&2
    [ "${CI:-}" = true ] && exit 1
    exit 0
  fi
fi
folder=$(mktemp -d /tmp/scaleshot-slurm.XXXXXX)
stop() { "$here/down.sh" "$folder" >&2 || true; rm -rf "$folder"; }
trap stop EXIT
SLURMD_TIMEOUT=10 MINJOBAGE=5 "$here/up.sh" "$folder" >&2
export SLURM_CONF=$folder/etc/slurm.conf SCALESHOT_TEST_CLUSTER=$folder
# Open MPI on a machine of two processors, in a container, over loopback.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_oob_tcp_if_include=lo
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1
"$@"
