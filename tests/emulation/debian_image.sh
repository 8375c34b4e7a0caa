#!/usr/bin/env bash
# A Debian image for aarch64 with systemd, cloud-init and an SSH server, laid out as a Raspberry Pi's card:
# a FAT partition "bootfs" that is mounted on /boot/firmware and holds the cloud-init seed, then the root partition.
#
#   debian_image.sh OUT_DIR [MIRROR]      writes OUT_DIR/debian.img, OUT_DIR/vmlinuz, OUT_DIR/initrd
#
# Needs root, mmdebstrap, qemu-user-static with its binfmt entry, mtools, dosfstools, e2fsprogs, fdisk, cpio, kmod.
# The kernel's own initramfs is not built: under emulation it takes longer than all the rest. A busybox with the
# modules for a virtio disk does.
set -euo pipefail
out=$(realpath -m "$1")
mirror=${2:-http://deb.debian.org/debian}
suite=bookworm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
root=$work/root

if [[ ! -f $out/root.tar ]]; then
    mmdebstrap --arch=arm64 --variant=minbase --mode=root --skip=check/qemu \
        --include=systemd,systemd-sysv,udev,dbus,openssh-server,cloud-init,python3,sudo,iproute2,kmod,busybox-static \
        --aptopt='APT::Install-Recommends "false"' \
        "$suite" "$work/root.tar" "$mirror"
    mv "$work/root.tar" "$out/root.tar"
fi
mkdir "$root"
tar -C "$root" -xpf "$out/root.tar" --exclude='./dev/*'

curl -fsS "$mirror/dists/$suite/main/binary-arm64/Packages.xz" | xz -d > "$work/Packages"
kernel=$(sed -n '/^Package: linux-image-arm64$/,/^$/s/^Depends: \(linux-image-[^ ]*\).*/\1/p' "$work/Packages")
path=$(sed -n "/^Package: $kernel\$/,/^\$/s/^Filename: //p" "$work/Packages")
curl -fsS -o "$work/kernel.deb" "$mirror/$path"
dpkg-deb --fsys-tarfile "$work/kernel.deb" | tar -C "$root" -xp --keep-directory-symlink # /lib is a link
version=$(basename "$root"/boot/vmlinuz-* | sed s/vmlinuz-//)
depmod -b "$root" "$version"
cp "$root/boot/vmlinuz-$version" "$out/vmlinuz"

mkdir -p "$root/boot/firmware"
cat > "$root/etc/fstab" <<FSTAB
/dev/vda2 / ext4 defaults,noatime 0 1
/dev/vda1 /boot/firmware vfat defaults 0 2
FSTAB
# The same as Raspberry Pi OS: the seed lies on the boot partition.
cat > "$root/etc/cloud/cloud.cfg.d/99_boot.cfg" <<CLOUD
datasource_list: [NoCloud]
datasource: {NoCloud: {seedfrom: "file:///boot/firmware/"}}
network: {config: disabled}
locale: false
CLOUD
mkdir -p "$root/etc/systemd/system/cloud-init-local.service.d"
printf '[Unit]\nRequiresMountsFor=/boot/firmware\n' > "$root/etc/systemd/system/cloud-init-local.service.d/boot.conf"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/20-wired.network"
systemctl --root="$root" enable systemd-networkd >/dev/null
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
echo 'nameserver 10.0.2.3' > "$root/etc/resolv.conf"
: > "$root/etc/machine-id"

init=$work/init
mkdir -p "$init"/{bin,proc,sys,dev,root,modules}
cp "$root/bin/busybox" "$init/bin/"
modules=()
for module in virtio_pci virtio_blk ext4; do
    while read -r _ path; do
        [[ " ${modules[*]} " == *" $(basename "$path") "* ]] && continue
        cp "$path" "$init/modules/" && modules+=("$(basename "$path")")
    done < <(modprobe -d "$root" -S "$version" --show-depends "$module" | grep ^insmod)
done
cat > "$init/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in ${modules[*]}; do /bin/busybox insmod /modules/\$module; done
while [ ! -b /dev/vda2 ]; do /bin/busybox sleep 1; done
/bin/busybox mount -t ext4 -o rw /dev/vda2 /root
/bin/busybox umount /proc /sys
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
INIT
chmod +x "$init/init"
(cd "$init" && find . | cpio -o -H newc --quiet | gzip -1) > "$out/initrd"

# 256 MiB of FAT and 1.75 GiB of root, put side by side without mounting anything.
truncate -s 256M "$work/boot.img"
mkfs.vfat -n bootfs "$work/boot.img" >/dev/null
mkfs.ext4 -q -L rootfs -d "$root" "$work/root.img" 1792M
truncate -s 2056M "$work/card.img"
printf 'label: dos\n2048,524288,c,*\n526336,3670016,83\n' | sfdisk -q "$work/card.img"
dd if="$work/boot.img" of="$work/card.img" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/root.img" of="$work/card.img" bs=1M seek=257 conv=notrunc,sparse status=none
mv "$work/card.img" "$out/debian.img"
