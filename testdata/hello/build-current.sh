ln -s "$tale" "$out"
