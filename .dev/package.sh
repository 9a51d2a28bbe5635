# `./dev package`: one stripped binary and a Debian package with a systemd unit. Sourced by ./dev.
#
# Needs strip and objdump (binutils, which every C++ compiler brings) and dpkg-deb. The package starts nothing
# when it is installed: a node that began before it was told its peers would found a cluster of its own.

package() {
    command -v dpkg-deb >/dev/null || die "no dpkg-deb: the package can only be built on Debian and its kin"
    local out=$TARGET_DIR/package version arch
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    arch=$(dpkg --print-architecture)
    rm -rf "$out"
    mkdir -p "$out"
    strip --strip-unneeded -o "$out/quoris" "$TARGET_DIR/release/quoris"
    package_tree "$out" "$version" "$arch"
    dpkg-deb --build --root-owner-group "$out/tree" "$out/quoris_${version}_$arch.deb" >&2
    rm -rf "$out/tree"
    note "$out holds $(ls -m "$out")"
}

package_tree() { # folder version architecture
    local tree=$1/tree
    install -D -m 755 "$1/quoris" "$tree/usr/bin/quoris"
    install -D -m 644 config/systemd/quoris.service "$tree/lib/systemd/system/quoris.service"
    install -D -m 644 LICENSE "$tree/usr/share/doc/quoris/copyright"
    install -d "$tree/etc/quoris" "$tree/DEBIAN"
    sed 's|^dir = .*|dir = "/var/lib/quoris"|' config/quoris.toml >"$tree/etc/quoris/quoris.toml"
    grep -q '^dir = "/var/lib/quoris"$' "$tree/etc/quoris/quoris.toml" || die "config/quoris.toml has no line for dir"
    # The file may come to hold a password.
    chmod 640 "$tree/etc/quoris/quoris.toml"
    echo /etc/quoris/quoris.toml >"$tree/DEBIAN/conffiles"
    package_control "$@" >"$tree/DEBIAN/control"
    package_postinst >"$tree/DEBIAN/postinst"
    package_prerm >"$tree/DEBIAN/prerm"
    package_postrm >"$tree/DEBIAN/postrm"
    chmod 755 "$tree"/DEBIAN/{postinst,prerm,postrm}
}

# The newest version of a library's symbols that the binary asks for.
package_needs() { # binary prefix
    objdump -T "$1" | grep -o "$2_[0-9][0-9.]*" | sed "s/$2_//" | sort -V | tail -n 1
}

package_control() { # folder version architecture
    local depends
    depends="adduser, libc6 (>= $(package_needs "$1/quoris" GLIBC))"
    objdump -p "$1/quoris" | grep -q 'NEEDED.*libgcc_s' && depends+=", libgcc-s1"
    # Symbols of libstdc++ have versions of their own; the compiler's major version is enough.
    objdump -p "$1/quoris" | grep -q 'NEEDED.*libstdc++' && depends+=", libstdc++6 (>= $(g++ -dumpversion))"
    cat <<CONTROL
Package: quoris
Version: $2
Architecture: $3
Maintainer: The Quoris developers <quoris@localhost>
Section: database
Priority: optional
Installed-Size: $(du -sk "$1/tree" | cut -f 1)
Depends: $depends
Suggests: redis-tools
Description: strongly consistent store that speaks Redis
 Every write goes through a Raft log before it happens, and that log is the
 append-only file. Any Redis client works against any node; a node that dies
 costs its clients a pause, not their data.
CONTROL
}

package_postinst() {
    cat <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    adduser --system --group --quiet --home /var/lib/quoris --no-create-home quoris
    install -d -o quoris -g quoris -m 750 /var/lib/quoris
    # CONFIG REWRITE writes beside the file and renames.
    chown quoris:quoris /etc/quoris /etc/quoris/quoris.toml
    chmod 750 /etc/quoris
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        if [ -n "$2" ]; then
            systemctl try-restart quoris.service
        else
            echo "quoris: not started; look at /etc/quoris/quoris.toml first, then: systemctl enable --now quoris"
        fi
    fi
fi
SCRIPT
}

package_prerm() {
    cat <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now quoris.service
fi
SCRIPT
}

# The data outlives the package: it may be the last copy of something.
package_postrm() {
    cat <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
if [ "$1" = purge ] && [ -d /var/lib/quoris ]; then
    echo "quoris: the data in /var/lib/quoris and the user quoris are left; remove them by hand"
fi
SCRIPT
}
