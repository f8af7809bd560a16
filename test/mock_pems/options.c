/*
 * options.c
 *		The command line.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "options.h"

#define DEFAULT_LOG_MEMORY 1000000
/* More threads than processors only take turns. */
#define MOST_DEFAULT_THREADS 4

enum
{
	OPTION_LOG = 1,
	OPTION_LOG_MEMORY,
	OPTION_TLS_CERT,
	OPTION_TLS_KEY,
	OPTION_TLS_PRIORITIES,
	OPTION_THREADS,
	OPTION_IDEMPOTENCY,
	OPTION_NO_AUTH,
	OPTION_DIE_WITH_PARENT,
	OPTION_HELP
};

static const struct option long_options[] = {
	{"log", required_argument, NULL, OPTION_LOG},
	{"log-memory", required_argument, NULL, OPTION_LOG_MEMORY},
	{"tls-cert", required_argument, NULL, OPTION_TLS_CERT},
	{"tls-key", required_argument, NULL, OPTION_TLS_KEY},
	{"tls-priorities", required_argument, NULL, OPTION_TLS_PRIORITIES},
	{"threads", required_argument, NULL, OPTION_THREADS},
	{"idempotency", no_argument, NULL, OPTION_IDEMPOTENCY},
	{"no-auth", no_argument, NULL, OPTION_NO_AUTH},
	{"die-with-parent", no_argument, NULL, OPTION_DIE_WITH_PARENT},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0},
};

static const char usage[] =
	"usage: mock_pems PORT RECORDS_FILE [options]\n"
	"  PORT                   port on 127.0.0.1, 0: a free one\n"
	"  RECORDS_FILE           organizations and records as JSON, -: none\n"
	"  --log FILE             append requests and changes as JSON lines\n"
	"  --log-memory N         entries kept for GET /_control/log (default 1000000)\n"
	"  --tls-cert FILE        speak TLS with this certificate (PEM)\n"
	"  --tls-key FILE         and its key\n"
	"  --tls-priorities TEXT  GnuTLS priorities (default: TLS 1.2 and 1.3)\n"
	"  --threads N            threads that serve connections\n"
	"  --idempotency          honour Idempotency-Key\n"
	"  --no-auth              accept every token, and none\n"
	"  --die-with-parent      end when the parent process ends\n";

static void
refuse(const char *problem, const char *value)
{
	fprintf(stderr, "mock_pems: %s: %s\n%s", problem, value, usage);
	exit(2);
}

static size_t
parse_number(const char *text, size_t least, size_t most, const char *problem)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || number < least || number > most)
		refuse(problem, text);
	return (size_t) number;
}

static void
set_defaults(MockOptions *options)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	*options = (MockOptions){0};
	options->log_memory = DEFAULT_LOG_MEMORY;
	/* without TLS 1.0 and 1.1, which a client of PEMS must refuse anyway */
	options->tls_priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
	options->threads = 1;
	if (processors > 1)
		options->threads =
			processors > MOST_DEFAULT_THREADS ? MOST_DEFAULT_THREADS : (unsigned int) processors;
}

static void
parse_option(MockOptions *options, int option)
{
	switch (option)
	{
		case OPTION_LOG:
			options->log_file = optarg;
			break;
		case OPTION_LOG_MEMORY:
			options->log_memory = parse_number(optarg, 2, 1000000000, "wrong number of entries");
			break;
		case OPTION_TLS_CERT:
			options->tls_cert_file = optarg;
			break;
		case OPTION_TLS_KEY:
			options->tls_key_file = optarg;
			break;
		case OPTION_TLS_PRIORITIES:
			options->tls_priorities = optarg;
			break;
		case OPTION_THREADS:
			options->threads = (unsigned int) parse_number(optarg, 1, 256, "wrong thread count");
			break;
		case OPTION_IDEMPOTENCY:
			options->idempotency = true;
			break;
		case OPTION_NO_AUTH:
			options->no_auth = true;
			break;
		case OPTION_DIE_WITH_PARENT:
			options->die_with_parent = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(2);
	}
}

void
mock_options_parse(MockOptions *options, int argc, char **argv)
{
	int option;

	set_defaults(options);
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		parse_option(options, option);
	if (argc - optind != 2)
	{
		fputs(usage, stderr);
		exit(2);
	}
	options->port = (uint16_t) parse_number(argv[optind], 0, 65535, "wrong port");
	options->records_file = argv[optind + 1];
	if ((options->tls_cert_file == NULL) != (options->tls_key_file == NULL))
		refuse("TLS needs both", "--tls-cert and --tls-key");
}
