# The life of images and containers, as users of podman have it. Leaves in $D/out what came of it:
# saved images, an exported container, and what was said.
podman import -q --change 'CMD ["/bin/sh"]' --change 'ENV PATH=/bin:/sbin' "$D/base.tar" localhost/base >/dev/null
podman run -d --name work --net=none localhost/base sleep 100000 >/dev/null
podman exec -i work sh -eu <"$D/changes.sh"
podman exec --user 1000:1000 work sh -euc 'echo mine >/tmp/mine; cat /etc/lower; ! touch /etc/mine 2>/dev/null'
podman diff work | sort >"$D/out/diff"
podman stop -t 0 work >/dev/null
podman start work >/dev/null
podman exec work sh -euc 'tail -n 1 /etc/lower; getcap /bin/tool'
podman cp work:/usr/share/moved "$D/out/copied"
podman stop -t 0 work >/dev/null
podman commit -q work localhost/done >/dev/null
podman export work -o "$D/out/work.tar"
podman run --rm --net=none localhost/done sh -euc '
  cat /etc/lower /etc/replaced /usr/share/single; find /usr/share | sort; getcap /bin/tool /bin/capable
  stat -c "%n %a %h %u:%g" /usr/share/single /etc/mode /etc/owner /var/setgid/in /bin/suid /usr/share/one'
podman run --rm --read-only --net=none localhost/done sh -euc 'cat /usr/share/again/new; ! touch /x 2>/dev/null'

mkdir -p context/tree
echo one >context/tree/one
echo two >context/tree/two
ln -f context/tree/one context/tree/same
cp "$D/changes.sh" context
cat >context/Containerfile <<'C'
FROM localhost/base AS first
COPY tree /src
RUN mkdir /out && cat /src/* >/out/all && ln /out/all /out/same && setcap cap_chown+ep /bin/tool && cp -p /bin/tool /out/tool
FROM localhost/base
COPY --from=first /out /out
COPY --from=first --chown=5:6 /src /src
COPY changes.sh /tmp/changes.sh
RUN sh -eu /tmp/changes.sh
RUN rm -r /usr/share/moved/below /out/same && mv /src /moved-src && ln /out/all /out/third && echo x >>/out/third
WORKDIR /work
C
podman build -q --network none -t localhost/built context >/dev/null
podman run --rm --net=none localhost/built sh -euc 'grep -H . /out/all /out/third; find /usr/share /moved-src /work | sort; getcap /bin/tool'
podman save -q --format docker-archive -m -o "$D/out/images.tar" localhost/done localhost/built

podman rm -a -f -t 0 >/dev/null
podman rmi -a -f >/dev/null
podman system prune -a -f --volumes >/dev/null
podman ps -a -q
podman images -q
podman system migrate
