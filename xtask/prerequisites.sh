#!/bin/sh
# Says what is missing to build weir, and the line that installs it. With `test`: what the tests need besides.
missing=""
need() { # name, check, package on Debian
	sh -c "$2" >/dev/null 2>&1 || missing="$missing
  $1$(printf '%*s' $((24 - ${#1})) '')apt-get install $3"
}
if ! command -v cargo >/dev/null 2>&1; then
	missing="$missing
  a Rust toolchain        https://rustup.rs  (Rust 1.95 or newer)"
fi
need "a C compiler" "command -v cc" "build-essential"
need "make" "command -v make" "make"
need "cmake" "command -v cmake" "cmake"
need "pkg-config" "command -v pkg-config" "pkg-config"
need "OpenSSL's headers" "pkg-config --exists openssl || ls /usr/include/openssl/ssl.h" "libssl-dev"
need "zlib's headers" "pkg-config --exists zlib || ls /usr/include/zlib.h" "zlib1g-dev"
if [ "$1" = test ]; then
	need "Java 17 or newer" "command -v javac" "openjdk-17-jdk-headless"
	need "Java 21 or newer" "for java in java /usr/lib/jvm/*/bin/java; do \$java -version 2>&1 | grep -q 'version \"\(2[1-9]\|[3-9][0-9]\)' && exit; done; exit 1" "openjdk-21-jre-headless, or temurin-25-jdk of adoptium.net (the schema registry)"
	need "Java 17" "for java in java /usr/lib/jvm/*/bin/java; do \$java -version 2>&1 | grep -q 'version \"17' && exit; done; exit 1" "openjdk-17-jre-headless, or temurin-17-jdk of adoptium.net (Cassandra)"
	need "Maven" "command -v mvn" "maven"
	need "PostgreSQL" "command -v initdb || ls /usr/lib/postgresql/*/bin/initdb" "postgresql"
	need "curl" "command -v curl" "curl"
	need "openssl" "command -v openssl" "openssl"
	need "git" "command -v git" "git"
	need "Python 3 with venv" "python3 -c 'import venv, ensurepip'" "python3-venv"
	need "kcat" "command -v kcat || command -v dpkg" "kcat"
fi
if [ -n "$missing" ]; then
	printf 'weir cannot be built here yet; missing:%s\n' "$missing" >&2
	exit 1
fi
