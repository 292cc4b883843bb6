#!/usr/bin/env bash
# ext4.sh TREE IMAGE LABEL UUID [STORE_PATHS]: write TREE as an ext4 file system,
# all of it root's, which is the same bytes for the same tree, whoever does it and
# when. The store paths that the file STORE_PATHS lists are copied into TREE first.
# Takes mke2fs, resize2fs, fakeroot and faketime.
set -euo pipefail
tree=$1 image=$2 label=$3 uuid=$4 store_paths=${5-}

# Without the links between files: a store has more or less of them, as it was
# built here or fetched, and optimised or not.
if [[ -n $store_paths ]]; then
  mkdir -p "$tree/nix/store"
  xargs cp -R --no-dereference --preserve=mode --reflink=auto -t "$tree/nix/store" <"$store_paths"
fi
if [[ -n $(find "$tree" -type f -links +1 -print -quit) ]]; then
  echo "ext4.sh: $tree has hard links, which another builder's may not have" >&2
  exit 1
fi

# A 4 KiB block for each started one, an inode for each file, and a tenth more
# for what holds them together; what is too much is cut off in the end.
inodes=$(find "$tree" -printf x | wc -c)
blocks=$(find "$tree" -printf '%s\n' | awk '{ n += 1 + int(($1 + 4095) / 4096) } END { print n }')
truncate -s $(((blocks * 11 / 10 + inodes / 10 + 16384) * 4096)) "$image"

# Times: those of the tree are the builder's as far as they are not the store's.
find "$tree" -exec touch -h -d @1 {} +
# The clock stands still, and owners are root, so that nothing of the builder's
# gets in; extended attributes are the file system's that the tree lies on. The
# seed of directory hashes is random unless given; it is not secret here, the image
# is public. -E is given once, mke2fs takes the last only.
faketime -f '1970-01-01 00:00:01' fakeroot mke2fs -q -t ext4 -b 4096 -m 0 \
  -N $((inodes * 11 / 10 + 1024)) -L "$label" -U "$uuid" \
  -E "hash_seed=$uuid,root_owner=0:0,no_copy_xattrs,lazy_itable_init=0,lazy_journal_init=0,nodiscard" \
  -d "$tree" "$image"
e2fsck -n -f "$image" >/dev/null 2>&1
faketime -f '1970-01-01 00:00:01' resize2fs -M "$image" >/dev/null 2>&1

# Room to boot in, before the file system is grown on the card.
size=$(dumpe2fs -h "$image" 2>/dev/null | awk '/^Block count:/ { print $3 }')
faketime -f '1970-01-01 00:00:01' resize2fs "$image" $((size + 4096)) >/dev/null 2>&1
