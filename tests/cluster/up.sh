#!/bin/bash
# Starts a Slurm controller and nodes on loopback, without root, systemd, cgroups or authentication: for tests alone.
#   up.sh FOLDER      settings: NODES=2 CPUS=2 MEM=4000 PORTBASE=16817 MINJOBAGE=300 SLURMD_TIMEOUT=20
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
D=$(realpath -m "$1")
NODES=${NODES:-2} CPUS=${CPUS:-2} MEM=${MEM:-4000} P=${PORTBASE:-16817} ME=$(id -un) HOST=$(hostname -s)
umask 022
mkdir -p "$D"/{etc,log,state,spool,pid}
cat > "$D/etc/slurm.conf" <<C
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$P
SrunPortRange=$((P+1000))-$((P+1199))
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$ME
SlurmdUser=$ME
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/pid/slurmctld.pid
SlurmdPidFile=$D/pid/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$D/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=${MINJOBAGE:-300}
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=${SLURMD_TIMEOUT:-20}
MessageTimeout=10
InactiveLimit=0
JobRequeue=1
MaxArraySize=1001
DefMemPerCPU=100
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
C
for i in $(seq 1 "$NODES"); do
  echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((P+10+i)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN"
done >> "$D/etc/slurm.conf"
cat >> "$D/etc/slurm.conf" <<C
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=short Nodes=n1 MaxTime=1 State=UP
C
export SLURM_CONF=$D/etc/slurm.conf
slurmctld -f "$SLURM_CONF"
for i in $(seq 1 "$NODES"); do mkdir -p "$D/spool/n$i"; slurmd -N "n$i" -f "$SLURM_CONF"; done
for _ in $(seq 1 300); do
  [ "$(sinfo -h -p cpu -t idle -o %D 2>/dev/null)" = "$NODES" ] && break; sleep 0.1
done
sinfo -N -o "%N %t %c %m"
[ "$(sinfo -h -p cpu -t idle -o %D)" = "$NODES" ] || { echo "the cluster did not become idle" >&2; tail -5 "$D"/log/*.log >&2; exit 1; }
