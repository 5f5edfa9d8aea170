# One of each thing that a store path may hold and that is easily got wrong.
mkdir -p "$out/empty directory" "$out/deep/a/b/c/d/e/f/g/h"
cd "$out" || exit

# names
echo space >"a name with spaces"
echo newline >"$(printf 'two\nlines')"
echo bytes >"$(printf 'not \377\376 UTF-8')"
echo utf-8 >"$(printf 'gr\303\274\303\237')"
echo long >"$(printf '%0255d' 0 | tr 0 n)"
echo dash >./-dash
echo dot >.hidden
# sorts before "deep" as bytes, after it in a locale
echo upper >Z

# contents
: >empty
echo bottom >deep/a/b/c/d/e/f/g/h/file
head -c 4096 "$tale/share/tale.txt" >page
head -c 131072 "$tale/share/tale.txt" >block # the first block of another path's file
head -c 20000 /dev/zero >zeros
tail -c 20000 "$tale/share/tale.txt" >deep/original
cp deep/original deep/duplicate
echo '#!/no/such/interpreter' >broken-script
chmod 755 broken-script

# links
ln -s page relative
ln -s ../../page deep/a/up
ln -s "$tale/share/tale.txt" absolute
ln -s "$out/page" itself
ln -s /no/such/file dangling
ln -s loop loop
ln -s "$(printf 'odd \377 target')" odd-link
ln -s "empty directory" directory
