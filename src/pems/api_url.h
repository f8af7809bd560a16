/*
 * pems/api_url.h
 *		Which URLs may be called: rules for api_url, and for every URL made from it.
 *
 * The only file outside of http/ that needs libcurl: URLs are read by its parser (curl_url), so
 * that what is checked here is what will be called.  That parser does no I/O and needs no
 * initialization.  Any process; no PostgreSQL; memory from malloc.
 */
#ifndef PEMS_API_URL_H
#define PEMS_API_URL_H

#include <stdbool.h>

typedef struct PemsUrlParts
{
	char *scheme;
	char *host;
	char *port; /* the default one is spelled out */
	char *path;
	char *user;
	char *password;
	char *query;
	char *fragment;
} PemsUrlParts;

/* False: not a URL, or out of memory; nothing to free. */
extern bool pems_api_url_parse(const char *url, PemsUrlParts *parts);
extern void pems_api_url_free(PemsUrlParts *parts);

/*
 * Why the URL may not be called, or NULL: it must be http(s) to the scheme, host,
 * port and path prefix of api, after all escaping and normalizing.  *plain: it is http.
 */
extern const char *pems_api_url_problem(const PemsUrlParts *api, const char *url,
										bool allow_loopback, bool *plain);

/*
 * May api_url be used?  https (or http to loopback under allow_loopback), a host
 * of the comma-separated allowed_hosts ("*.example.com" and "host:port" are not
 * patterns: hosts are compared whole, without regard to case), no user, query or
 * fragment, a path without dot segments.  On false *error is a malloc'ed sentence (NULL: out of
 * memory), fit as a DETAIL, and *hint a static one.
 * Loopback names ("localhost", 127.0.0.0/8, [::1]) need allow_loopback AND a place in
 * allowed_hosts.
 */
extern bool pems_api_url_check(const char *api_url, const char *allowed_hosts, bool allow_loopback,
							   char **error, const char **hint);

/*
 * "https://host:port" (default port made explicit, host in lower case): what rate limit and
 * breaker belong to.  malloc'ed; NULL: not a URL.
 */
extern char *pems_api_url_endpoint(const char *api_url);

#endif /* PEMS_API_URL_H */
