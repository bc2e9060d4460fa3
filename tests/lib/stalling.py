"""stalling.py - memory that never comes: pages under a userfaultfd(2) that nobody serves.

Whoever touches them waits, in user space or in the middle of a system call."""
import ctypes
import fcntl
import os
import struct

SYS_USERFAULTFD = 323
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]


def pages(n):
    """Maps n of them. Returns their address and the fd, which must stay open; OSError if the
    kernel lets this user have none."""
    fd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
    if fd < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    fcntl.ioctl(fd, UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
    addr = libc.mmap(None, 4096 * n, 3, 0x22, -1, 0)
    fcntl.ioctl(fd, UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", addr, 4096 * n, 1, 0)))
    return addr, fd
