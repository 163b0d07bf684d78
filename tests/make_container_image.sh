#!/bin/sh
# The image that tests/test_container.py runs in, made of Debian packages in a minute, without a registry. As root:
#
#     apt-get install -y podman runc debootstrap
#     sh tests/make_container_image.sh
#
# Inside a virtual machine or a container Podman wants to be told more; write it down and name the files:
#
#     cat > containers.conf <<'END'
#     [engine]
#     runtime = "runc"
#     cgroup_manager = "cgroupfs"
#     [containers]
#     cgroups = "no-conmon"
#     default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
#     END
#     printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' > storage.conf
#     export CONTAINERS_CONF=$PWD/containers.conf CONTAINERS_STORAGE_CONF=$PWD/storage.conf
#
# Where there is no overlay, "vfs" works and copies the image for every container: seconds each.
# The same variables have to be set when the tests run. Another engine or image: TEST_CONTAINER_IMAGE=NAME.
set -eu
engine=${ENGINE:-podman}
image=${TEST_CONTAINER_IMAGE:-localhost/rlm-test-python:3.11}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3 bookworm "$folder/root" http://deb.debian.org/debian
cd "$folder/root"
rm -rf var/cache/* var/lib/apt/* usr/share/doc usr/share/locale usr/share/man
tar -c . | "$engine" import - "$image"
