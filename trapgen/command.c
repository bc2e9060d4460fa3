#include <trapgen/command.h>

#include <appswitch/util.h>
#include <trapgen/fail.h>
#include <trapgen/trapgen.h>

#include <elf.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Length of the UTF-8 sequence at @s (RFC 3629: shortest form, no surrogates), 0 if none. */
static size_t utf8_len(const unsigned char *s)
{
	static const struct {
		unsigned char first_lo, first_hi, second_lo, second_hi;
		size_t len;
	} forms[] = {
		{ 0x01, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (s[0] < forms[i].first_lo || s[0] > forms[i].first_hi)
			continue;
		if (forms[i].len > 1 &&
		    (s[1] < forms[i].second_lo || s[1] > forms[i].second_hi))
			return 0;
		for (size_t k = 2; k < forms[i].len; k++) {
			if (s[k] < 0x80 || s[k] > 0xbf) /* also stops at the final NUL */
				return 0;
		}
		return forms[i].len;
	}
	return 0;
}

void command_text(char *const *argv, char ret[COMMAND_TEXT_MAX + 1])
{
	size_t used = 0;

	for (size_t i = 0; argv[i] != NULL; i++) {
		const unsigned char *s = (const unsigned char *)argv[i];

		if (i > 0 && used < COMMAND_TEXT_MAX)
			ret[used++] = ' ';
		while (*s != '\0') {
			size_t len = utf8_len(s);
			size_t step = len > 0 ? len : 1;

			if (used + step > COMMAND_TEXT_MAX)
				goto full;
			if (len > 0)
				memcpy(ret + used, s, len);
			else
				ret[used] = '?';
			used += step;
			s += step;
		}
	}
full:
	ret[used] = '\0';
}

/* 0, -ENOENT or -EACCES, as execvp() would end for lack of a file. */
static int find_in_path(const char *name, char *ret, size_t size)
{
	const char *path = getenv("PATH");
	int result = -ENOENT;

	if (*name == '\0')
		return -ENOENT;
	if (strchr(name, '/') != NULL) {
		if ((size_t)snprintf(ret, size, "%s", name) >= size)
			return -ENAMETOOLONG;
		return faccessat(AT_FDCWD, ret, X_OK, AT_EACCESS) < 0 ? -errno : 0;
	}
	if (path == NULL)
		path = "/bin:/usr/bin";
	for (;;) {
		size_t len = strcspn(path, ":");
		struct stat st;
		int n = snprintf(ret, size, "%.*s%s%s", (int)len, path, len > 0 ? "/" : "",
				 name);

		if (n > 0 && (size_t)n < size && stat(ret, &st) == 0) {
			if (S_ISREG(st.st_mode) &&
			    faccessat(AT_FDCWD, ret, X_OK, AT_EACCESS) == 0)
				return 0;
			result = -EACCES;
		}
		if (path[len] == '\0')
			return result;
		path += len + 1;
	}
}

/* e_ident and e_machine lie at the same place in both classes. */
static bool read_elf(const char *path, Elf64_Ehdr *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	memset(ret, 0, sizeof(*ret));
	return fd >= 0 &&
	       read(fd, ret, sizeof(*ret)) >= (ssize_t)offsetof(Elf64_Ehdr, e_version) &&
	       memcmp(ret->e_ident, ELFMAG, SELFMAG) == 0;
}

int command_check(const char *name)
{
	char path[PATH_MAX];
	Elf64_Ehdr elf, own;
	int r = find_in_path(name, path, sizeof(path));

	if (r == -ENOENT || r == -ENOTDIR)
		return trapgen_fail(TRAPGEN_EXIT_NOT_FOUND,
				    "find '%s': no such command; check its name and PATH",
				    name);
	if (r < 0)
		return trapgen_fail(TRAPGEN_EXIT_NOT_EXEC,
				    "execute '%s': %s; check the file's permissions", name,
				    strerror(-r));
	if (!read_elf(path, &elf) || !read_elf("/proc/self/exe", &own))
		return 0;
	if (elf.e_ident[EI_CLASS] == ELFCLASS32)
		return trapgen_fail(TRAPGEN_EXIT_NOT_EXEC,
				    "execute '%s': it is a 32-bit program, whose system calls"
				    " cannot be switched; use a 64-bit build",
				    path);
	if (elf.e_machine != own.e_machine)
		return trapgen_fail(TRAPGEN_EXIT_NOT_EXEC,
				    "execute '%s': it is built for another machine (ELF machine"
				    " %u, this one is %u); use a native build",
				    path, elf.e_machine, own.e_machine);
	return 0;
}

int command_user_find(const char *spec, struct command_user *ret)
{
	struct command_user u = { 0 };
	struct passwd *pw;
	char *end;
	unsigned long number = strtoul(spec, &end, 10);
	bool numeric = *spec >= '0' && *spec <= '9' && *end == '\0' && number < UINT_MAX;

	errno = 0;
	pw = getpwnam(spec);
	if (pw == NULL && numeric)
		pw = getpwuid((uid_t)number);
	if (pw == NULL) {
		if (!numeric)
			return errno == 0 ? -ENOENT : -errno;
		*ret = (struct command_user){ .uid = (uid_t)number, .gid = (gid_t)number };
		return 0;
	}
	u.uid = pw->pw_uid;
	u.gid = pw->pw_gid;
	u.name = strdup(pw->pw_name);
	u.home = strdup(pw->pw_dir);
	if (u.name != NULL) /* says how many there are */
		(void)getgrouplist(u.name, u.gid, NULL, &u.n_groups);
	u.groups = calloc((size_t)u.n_groups + 1, sizeof(*u.groups));
	if (u.name == NULL || u.home == NULL || u.groups == NULL) {
		command_user_done(&u);
		return -ENOMEM;
	}
	if (getgrouplist(u.name, u.gid, u.groups, &u.n_groups) < 0) {
		command_user_done(&u); /* the list grew meanwhile */
		return -EAGAIN;
	}
	*ret = u;
	return 0;
}

void command_user_done(struct command_user *u)
{
	free(u->groups);
	free(u->name);
	free(u->home);
	*u = (struct command_user){ 0 };
}

int command_user_become(const struct command_user *u)
{
	if (setgroups((size_t)u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 ||
	    setuid(u->uid) < 0)
		return -errno;
	if (setenv("HOME", u->home != NULL ? u->home : "/", 1) < 0)
		return -errno;
	if (u->name == NULL) {
		unsetenv("USER");
		unsetenv("LOGNAME");
		return 0;
	}
	if (setenv("USER", u->name, 1) < 0 || setenv("LOGNAME", u->name, 1) < 0)
		return -errno;
	return 0;
}
