#include <appswitch/userns.h>

#include <appswitch/util.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

int write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (n < 0)
		return -errno;
	return n == (ssize_t)strlen(text) ? 0 : -EIO;
}

int userns_new(const char **ret_what)
{
	unsigned uid = geteuid(), gid = getegid(); /* inside they are known only once mapped */
	char map[64];
	int r;

	*ret_what = "make a user namespace";
	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	*ret_what = "map the user into the namespace";
	r = write_file("/proc/self/setgroups", "deny");
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	r = write_file("/proc/self/uid_map", map);
	if (r < 0)
		return r;
	*ret_what = "map the group into the namespace";
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return write_file("/proc/self/gid_map", map);
}
