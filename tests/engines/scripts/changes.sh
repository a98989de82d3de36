# What is done to the files of an image in a container; the same for each driver.
echo changed >>/etc/lower
chmod 600 /etc/mode
chown 5:6 /etc/owner
sed -i s/a/b/ /etc/sed
echo new >/etc/replaced.new
mv /etc/replaced.new /etc/replaced
rm /usr/share/gone-file
rm -r /usr/share/gone-dir
rm -r /usr/share/again
mkdir /usr/share/again
echo new >/usr/share/again/new
rm /usr/share/emptied/*
mv /usr/share/tree /usr/share/moved
mv /usr/share/file /usr/share/renamed
ln /usr/share/single /usr/share/second
echo more >>/usr/share/second
rm /usr/share/two
setcap cap_net_raw+ep /bin/tool
chmod u-s /bin/suid
touch /var/setgid/in
mkdir -m 700 "/var/name with blanks"
printf 'x' >"/var/name with blanks/é,:\\"
ln -s nowhere /var/dangling
mkfifo -m 640 /var/pipe
truncate -s 3000000 /var/sparse
echo end >>/var/sparse
truncate -s 500000 /usr/share/numbers
