#!/bin/bash
# Runs a command beside a Slurm cluster of its own: a controller and two nodes on loopback, without root, gone afterwards.
#   tests/cluster/serve.sh COMMAND...
# Installs Slurm, and Open MPI with what builds scaleshot-mpi. What cannot be had fails under CI=true; else, without
# Slurm nothing is run and without MPI its scenarios are left out, which is said.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
missing() { [ "${CI:-}" = true ] && exit 1; echo "left out: $1" >&2; }
for program in slurmctld slurmd sbatch; do
  "$here/install.sh" $program slurmctld slurmd slurm-client || { missing "everything"; exit 0; }
done
if "$here/install.sh" mpicc libopenmpi-dev openmpi-bin libclang-dev; then
  "${CARGO:-cargo}" build --release --locked --features mpi >&2
  export SCALESHOT_TEST_RANKS=${CARGO_TARGET_DIR:-target}/release/scaleshot-mpi
else
  missing "ranks under MPI"
fi
folder=$(mktemp -d /tmp/scaleshot-slurm.XXXXXX)
stop() { "$here/down.sh" "$folder" >&2 || true; rm -rf "$folder"; }
trap stop EXIT
SLURMD_TIMEOUT=10 MINJOBAGE=5 "$here/up.sh" "$folder" >&2
export SLURM_CONF=$folder/etc/slurm.conf SCALESHOT_TEST_CLUSTER=$folder
# Open MPI as root of a container, over loopback, with more ranks than processors.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_oob_tcp_if_include=lo
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1
# Never through shared memory: Open MPI 4 names a rank's segment by host and rank within the node. Two nodes of this one
# host with two ranks each would write into each other's segments, and end in SIGSEGV or wait for ever.
export OMPI_MCA_btl=self,tcp
"$@"
