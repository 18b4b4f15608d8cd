# The first process of a node ($1, its name): gives it what the machine's other processes are not to share, and stays. $2 is a
# directory of the node's own.
set -e
mount -t proc proc /proc
echo "$1" > /proc/sys/kernel/hostname
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs /run
for name in lib log; do
    mkdir -p "$2/$name"
    mount --bind "$2/$name" "/var/$name"
done
# A kubelet sets these for the whole kernel, unless it finds what it wants.
while read -r name value; do
    echo "$value" > "$2/${name##*/}"
    mount --bind "$2/${name##*/}" "/proc/sys/$name"
done << end
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
end
# Pods' mounts are to be seen on the node where they ask for it.
mount --make-rshared /
touch "$2/up"
# Orphans are the first process's to bury.
while :; do
    wait || :
    sleep 1
done
