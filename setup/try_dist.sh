#!/usr/bin/env bash
# Tries the archives of `make dist` where there is nothing but glibc's own libraries, in an empty environment: a pipeline from
# data to scores with the one, an answer of its model over HTTP with the other. Needs root, for chroot.
set -euo pipefail
cd "$(dirname "$0")/../dist"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{lib64,lib/x86_64-linux-gnu,proc,dev,tmp,opt}
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64"
for library in libc.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 libutil.so.1; do
    cp -L "$(gcc -print-file-name=$library)" "$root/lib/x86_64-linux-gnu"
done
for archive in bam-[0-9]*.tar.gz bam-serve-*.tar.gz; do
    mkdir "$root/opt/${archive%-linux*}, moved"
    tar -C "$root/opt/${archive%-linux*}, moved" --strip-components=1 -xzf "$archive"
done
cat > "$root/tmp/pipeline.yaml" <<'END'
vars: { encoder: "${bam:share}/encoders/all-MiniLM-L6-v2" }
stages:
  examples: { data: { task: sentiment, grammar: { train: 32, dev: 8 } } }
  tokens:   { tokenize: { examples: examples, encoder: $encoder, max_tokens: 16 } }
  student:  { train: { tokens: [tokens], encoder: $encoder, layers: 1, epochs: 1, learning_rate: 1e-4 } }
  onnx:     { export: { model: student } }
  scores:   { score: { models: [onnx], tokens: [tokens] } }
END

# inside COMMAND...: in that root, with a /proc of its own; its processes end with it.
inside() {
    exec unshare --mount --pid --fork --kill-child bash -c 'mount -t proc proc "$0/proc" && exec env -i "$(command -v chroot)" "$0" "$@"' "$root" "$@"
}
all=$(basename "$root"/opt/bam-[0-9]*)
serve=$(basename "$root"/opt/bam-serve-*)
(inside "/opt/$all/bin/bam" run /tmp/pipeline.yaml --artifacts /tmp/artifacts)
inside "/opt/$serve/bin/bam" serve onnx --artifacts /tmp/artifacts --listen 127.0.0.1:18766 >/dev/null 2>&1 &
python3 - <<'END'
import json, time, urllib.request
request = urllib.request.Request("http://127.0.0.1:18766/v1/predict", b'{"inputs": "a fine day"}', {"content-type": "application/json"})
for _ in range(100):
    try:
        print(json.load(urllib.request.urlopen(request))["results"])
        break
    except OSError:
        time.sleep(0.1)
else:
    raise SystemExit("no answer")
END
kill -9 $!
echo "both archives work"
