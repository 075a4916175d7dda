// Package mountopt is the one parser and formatter of mount option strings:
// what follows -o, in /etc/fstab and on the command lines of podman and
// buildah. It knows the names and values of the kernel's overlayfs
// (fs/overlayfs/params.c), those of fuse-overlayfs, and the generic ones of
// mount(8); it touches no file.
//
// An option string is a list of NAME or NAME=VALUE separated by commas.
//
//   - A backslash takes the meaning from the character after it: `\,` `\:` `\\`.
//     At the very end it is an ordinary character.
//   - A value that begins with a double quote goes up to the next one, commas
//     and all: context="system_u:object_r:usr_t:s0:c1,c2". Within it a backslash
//     escapes too.
//   - lowerdir is a list separated by colons, the top layer first; lowerdir+
//     adds one layer below those before it, and a colon in it is ordinary.
//   - An option given twice counts as given last, but for lowerdir+.
package mountopt
