# The program, its interpreter for scripts, and a script.
mkdir -p "$out/bin" "$out/share"
compile() {
  # musl-gcc is gcc with the headers and libraries of Debian's musl; the loader and the
  # library search path are those of the closure.
  musl-gcc -O2 -s -Wall -Wextra -Werror -ffile-prefix-map="$csrc"=. \
    -DOUT="\"$out\"" -DTALE="\"$tale\"" -DGREETING="\"$greeting\"" -DODDITIES="\"$oddities\"" \
    -Wl,--dynamic-linker="$musl/lib/ld-musl-x86_64.so.1" -Wl,-rpath,"$musl/lib" \
    -Wl,--build-id=none "$csrc/$1.c" -o "$out/bin/$1"
}
compile hello
compile say
printf '#!%s/bin/say\nThis script needs no shell: its interpreter lies in the store.\n' "$out" >"$out/bin/tour"
chmod 755 "$out/bin/tour"
ln -s hello "$out/bin/greet"
# a small file that lies in another path, too
cp "$greeting" "$out/share/greeting.txt"
# a path that is a symbolic link, which refers to another
ln -s "$current/share/tale.txt" "$out/share/tale.txt"
