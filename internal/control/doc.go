// Package control is how commands speak with the daemon of a mount: one unix
// socket per mount.
//
// The socket is named after the mount's device number (st_dev, as the mount
// table has it: "0-53.sock"), which is unique among live mounts, so a client
// that reads the mount table finds it without touching the mount. It lies in a
// directory of mode 0700 that belongs to the daemon's user: /run/unionfs for
// root, $XDG_RUNTIME_DIR/unionfs, or /tmp/unionfs-UID. The server lets in its
// own user and root (SO_PEERCRED).
//
// The protocol is one JSON object per line, a Request answered by a Response, in
// turn. Operations:
//
//	status  what the mount is made of and what it is doing
//	freeze  hold writes back until thaw, until the connection ends, or until
//	        the time asked for is over
//	thaw    let them go on; it fails when the freeze had ended before
//	sync    flush everything to disk
//	stop    begin to unmount
//	wait    answered twice: at once, and when the daemon has flushed and let go
//	        of its directories, with the error of that
//
// When the daemon ends, however it does, the connection ends too.
package control
