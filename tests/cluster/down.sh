#!/bin/bash
# Stops what up.sh started, by the numbers in its pid files alone.
export PATH=$PATH:/usr/sbin:/sbin
D=$(realpath -m "$1"); export SLURM_CONF=$D/etc/slurm.conf
timeout 10 scancel --user="$(id -un)" 2>/dev/null
for _ in $(seq 1 50); do [ -z "$(timeout 5 squeue -h -t R,CG 2>/dev/null)" ] && break; sleep 0.2; done
stop() { # a zombie that was not reaped yet counts as gone
  local f=$1 p; [ -f "$f" ] || return 0; p=$(cat "$f"); kill "$p" 2>/dev/null || return 0
  for _ in $(seq 1 100); do case $(ps -o stat= -p "$p") in ""|Z*) rm -f "$f"; return 0;; esac; sleep 0.1; done
  kill -9 "$p"; rm -f "$f"
}
for f in "$D"/pid/slurmd.*.pid; do stop "$f"; done
stop "$D/pid/slurmctld.pid"
