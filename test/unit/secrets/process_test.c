/*
 * secrets/process_test.c
 *		What the system must not show of a process: src/secrets/process.c.
 */
#include "unit.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "secrets/process.h"

/* In a process of its own, because the leak detector needs what is forbidden there. */
UNIT_TEST(a_private_process_leaves_no_core_and_lets_nobody_look)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0)
	{
		struct rlimit limit = {1, 1};

		pems_secrets_keep_process_private();
		if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0 || limit.rlim_max != 0)
			_exit(1);
		_exit(prctl(PR_GET_DUMPABLE) == 0 ? 0 : 2);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status));
	CHECK_INT(WEXITSTATUS(status), 0);
}
