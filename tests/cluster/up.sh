#!/bin/bash
# Starts a Slurm controller and nodes on loopback, without root, systemd, cgroups or authentication: for tests alone.
#   up.sh FOLDER      settings: NODES=2 CPUS=2 MEM=4000 PORTBASE=(the first free) MINJOBAGE=300 SLURMD_TIMEOUT=20
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
D=$(realpath -m "$1")
NODES=${NODES:-2} CPUS=${CPUS:-2} MEM=${MEM:-4000} ME=$(id -un) HOST=$(hostname -s)
# Below the range of ports that the system gives out by itself; another cluster may run beside this one.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free() { local i; taken "$1" && return 1; for i in $(seq 1 "$NODES"); do taken $(($1+10+i)) && return 1; done; return 0; }
P=${PORTBASE:-}
if [ -z "$P" ]; then
  for P in $(seq $((16817 + RANDOM % 40 * 300)) 300 31000) $(seq 16817 300 31000) none; do
    if [ "$P" = none ]; then echo "no free ports between 16817 and 31000" >&2; exit 1; fi
    free "$P" && break
  done
fi
umask 022
mkdir -p "$D"/{etc,log,state,spool,pid}
cat > "$D/etc/slurm.conf" <<C
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$P
SrunPortRange=$((P+50))-$((P+249))
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
for _ in $(seq 1 1200); do
  [ "$(sinfo -h -p cpu -t idle -o %D 2>/dev/null)" = "$NODES" ] && break; sleep 0.1
done
sinfo -N -o "%N %t %c %m"
[ "$(sinfo -h -p cpu -t idle -o %D)" = "$NODES" ] || { echo "the cluster did not become idle in two minutes" >&2; tail -5 "$D"/log/*.log >&2; exit 1; }
