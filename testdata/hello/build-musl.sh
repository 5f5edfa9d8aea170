# musl, as Debian packages it: a C library that is its own dynamic loader.
mkdir -p "$out/lib" "$out/share/doc/musl"
cp "$musl" "$out/lib/libc.so"
chmod 755 "$out/lib/libc.so"
# an absolute link to the store makes the path refer to itself
ln -s "$out/lib/libc.so" "$out/lib/ld-musl-x86_64.so.1"
cp "$licence" "$out/share/doc/musl/copyright"
