package xdp

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveOffloadOff turns generic receive offload of a device off. A generic
// program runs after it and would see several packets merged into one, longer
// than any link takes; a native one runs before it.
func receiveOffloadOff(device string) error {
	if _, err := ethtool(device, unix.ETHTOOL_SGRO, 0); err != nil {
		return fmt.Errorf("turn receive offload of %s off: %w", device, err)
	}
	return nil
}

// ethtool sets or gets one boolean feature of a device of the caller's network
// namespace.
func ethtool(device string, cmd, value uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	feature := struct{ cmd, data uint32 }{cmd, value}
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // its union is larger than a pointer
	}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	request.data = unsafe.Pointer(&feature)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 0, errno
	}
	return feature.data, nil
}
