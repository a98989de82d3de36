# Makes base.tar, the root of a small system, in the current directory: busybox, the tools for
# capabilities with their libraries, and one thing of each kind that a later layer can change.
mkdir -p base/{bin,dev,etc,home,proc,root,sbin,sys,usr,var/tmp}
mkdir -m 1777 base/tmp
cp /bin/busybox base/bin/busybox
for applet in $(busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "base/bin/$applet"
done
for tool in setcap getcap; do
  program=$(PATH=$PATH:/usr/sbin:/sbin command -v $tool)
  cp "$program" base/sbin/$tool
  for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    install -D "$library" "base$library"
  done
done
echo root:x:0:0:root:/root:/bin/sh >base/etc/passwd
echo root:x:0: >base/etc/group

share=base/usr/share
mkdir -p $share/{gone-dir,again,tree/below/deeper,emptied}
for name in lower mode owner replaced sed; do echo "a $name" >base/etc/$name; done
for name in gone-file file single; do echo "$name" >$share/$name; done
for n in 1 2 3; do echo $n >$share/gone-dir/$n; echo $n >$share/again/$n; echo $n >$share/emptied/$n; done
for d in tree tree/below tree/below/deeper; do echo in >$share/$d/f; ln -s f $share/$d/l; done
echo linked >$share/one
ln $share/one $share/two
seq 150000 >$share/numbers
cp /bin/busybox base/bin/tool
cp /bin/busybox base/bin/suid
cp /bin/busybox base/bin/capable
setcap cap_net_bind_service+ep base/bin/capable
chmod 4755 base/bin/suid
install -d -m 2775 -g 50 base/var/setgid
chown 12:34 $share/file
mkfifo base/var/fifo
tar -C base --xattrs --xattrs-include='*' --numeric-owner -cf base.tar .
rm -r base
