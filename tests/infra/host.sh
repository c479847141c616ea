#!/bin/sh
# First process of a test host (tests/infra/hosts.py): host.sh NAME ADDRESS. Reaps what is left to
# it, as an init does, and ends when the SSH server ends. /home and /var/lib are its disk, which
# outlasts it.
set -eu
hostname "$1"

mount --make-rprivate /
for folder in /tmp /run; do
  mount -t tmpfs "$1" "$folder"
done
for folder in /home /var/lib; do
  mkdir -p "$DISKS/$1$folder"
  mount --bind "$DISKS/$1$folder" "$folder"
done
# What is needed of the machine below, where that has hidden it.
number=0
IFS=:
for path in $NEEDED; do
  if [ -z "$(ls -A "$path" 2> /dev/null)" ]; then
    mkdir -p "$path"
    mount --bind "$KEPT/$number" "$path"
  fi
  number=$((number + 1))
done
unset IFS
mount -t tmpfs -o size=2g "$1" /dev/shm
mkdir -p /run/sshd "/home/$USER/.ssh" "/home/$USER/hyperrag"
cp "$KEY" "/home/$USER/.ssh/authorized_keys"
touch "/home/$USER/.bashrc"
# HyperRAG is installed already: the environment of whoever runs the tests.
ln -sfn "$VENV" "/home/$USER/hyperrag/venv"

# An account with a home of its own. It is root by another name, the one that counts: the shared
# environment may lie where nobody else may look, and sudo is then not needed.
{ echo "$USER:x:0:0::/home/$USER:/bin/bash"; cat /etc/passwd; } > /run/passwd
mount --bind /run/passwd /etc/passwd
mount -o remount,bind,ro /

ssh-keygen -q -t ed25519 -N "" -f /run/sshd/key
cat > /run/sshd/config << END
ListenAddress $2
HostKey /run/sshd/key
AuthorizedKeysFile /home/$USER/.ssh/authorized_keys
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
SetEnv PYTHONPATH=$SOURCES
END

while ! ip link show eth0 > /dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip addr add "$2/24" dev eth0
ip link set eth0 up
ip route add default via "$OPERATOR"

/usr/sbin/sshd -D -f /run/sshd/config &
wait $!
