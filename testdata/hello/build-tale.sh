# A compressible text of 1 MiB and one byte: eight blocks of 128 KiB, and a tail of one byte.
mkdir -p "$out/share"
awk 'BEGIN {
  for (night = 1; night <= 1001; night++)
    for (line = 1; line <= 20; line++)
      printf "Night %d, line %d: and then, said %d, the reader turned another page.\n",
        night, line, (night * 7919 + line * 104729) % 65537
}' >tale.txt
head -c 1048577 tale.txt >"$out/share/tale.txt"
: >"$out/share/empty"
