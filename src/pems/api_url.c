/*
 * pems/api_url.c
 *		Which URLs may be called; see api_url.h.
 *
 * Process: any.  Memory: malloc, and what libcurl's URL functions allocate.
 */
#include "pems/api_url.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pems/address.h"

void
pems_api_url_free(PemsUrlParts *parts)
{
	curl_free(parts->scheme);
	curl_free(parts->host);
	curl_free(parts->port);
	curl_free(parts->path);
	curl_free(parts->user);
	curl_free(parts->password);
	curl_free(parts->query);
	curl_free(parts->fragment);
	*parts = (PemsUrlParts){0};
}

/* Read the parts; true when those are there that no URL of an API can do without. */
static bool
read_parts(CURLU *handle, PemsUrlParts *parts)
{
	curl_url_get(handle, CURLUPART_SCHEME, &parts->scheme, 0);
	curl_url_get(handle, CURLUPART_HOST, &parts->host, 0);
	curl_url_get(handle, CURLUPART_PORT, &parts->port, CURLU_DEFAULT_PORT);
	curl_url_get(handle, CURLUPART_PATH, &parts->path, 0);
	curl_url_get(handle, CURLUPART_USER, &parts->user, 0);
	curl_url_get(handle, CURLUPART_PASSWORD, &parts->password, 0);
	curl_url_get(handle, CURLUPART_QUERY, &parts->query, 0);
	curl_url_get(handle, CURLUPART_FRAGMENT, &parts->fragment, 0);
	return parts->scheme && parts->host && parts->port && parts->path;
}

bool
pems_api_url_parse(const char *url, PemsUrlParts *parts)
{
	CURLU *handle = curl_url();
	bool parsed;

	*parts = (PemsUrlParts){0};
	if (handle == NULL)
		return false;
	parsed = curl_url_set(handle, CURLUPART_URL, url, 0) == CURLUE_OK && read_parts(handle, parts);
	curl_url_cleanup(handle);
	if (!parsed)
		pems_api_url_free(parts);
	return parsed;
}

/* Only characters that every parser reads alike. */
static bool
has_only_plain_characters(const char *url)
{
	for (const unsigned char *c = (const unsigned char *) url; *c != '\0'; c++)
	{
		if (*c <= 0x20 || *c >= 0x7f || *c == '\\')
			return false;
	}
	return true;
}

/* Length of a dot at text, plain or escaped; 0: none. */
static size_t
dot_length(const char *text)
{
	if (*text == '.')
		return 1;
	return strncasecmp(text, "%2e", 3) == 0 ? 3 : 0;
}

/*
 * Is a "." or ".." among the segments of the URL's path?  libcurl resolves plain ones before it
 * sends, servers also resolve escaped ones; neither belongs here.
 */
static bool
has_dot_segment(const char *url)
{
	const char *begin = strstr(url, "://");
	const char *segment = begin == NULL ? url : strchr(begin + 3, '/');

	while (segment != NULL && *segment == '/')
	{
		const char *end = segment + 1;
		int dots = 0;

		for (size_t length; (length = dot_length(end)) > 0; dots++)
			end += length;
		if (dots >= 1 && dots <= 2 && (*end == '\0' || strchr("/?#", *end) != NULL))
			return true;
		segment = end + strcspn(end, "/?#");
	}
	return false;
}

/* Path of the request below the path of the API, on a segment's border. */
static bool
is_path_below(const char *path, const char *api_path)
{
	size_t length = strlen(api_path);

	while (length > 0 && api_path[length - 1] == '/')
		length--;
	return strncmp(path, api_path, length) == 0 && path[length] == '/';
}

const char *
pems_api_url_problem(const PemsUrlParts *api, const char *url, bool allow_loopback, bool *plain)
{
	PemsUrlParts parts;
	const char *problem = NULL;

	if (!has_only_plain_characters(url) || has_dot_segment(url))
		return "the URL holds a character or a dot segment that it may not hold";
	if (!pems_api_url_parse(url, &parts))
		return "the URL cannot be read";
	*plain = strcmp(parts.scheme, "http") == 0;
	if (parts.user != NULL || parts.password != NULL || parts.fragment != NULL)
		problem = "the URL holds a user, a password or a fragment";
	else if (strcmp(parts.scheme, api->scheme) != 0 || strcasecmp(parts.host, api->host) != 0 ||
			 strcmp(parts.port, api->port) != 0 || !is_path_below(parts.path, api->path))
		problem = "the URL leaves the scheme, host, port or path of api_url";
	else if (*plain && !(allow_loopback && pems_address_is_loopback(parts.host)))
		problem = "http is allowed to loopback only, and only with allow_insecure_loopback";
	else if (!*plain && strcmp(parts.scheme, "https") != 0)
		problem = "the URL is neither https nor http";
	pems_api_url_free(&parts);
	return problem;
}

/* Is host one of a comma-separated list?  Brackets of an IPv6 address may be left out there. */
static bool
is_listed(const char *host, const char *list)
{
	size_t length = strlen(host);
	const char *bare = host[0] == '[' ? host + 1 : host;
	size_t bare_length = host[0] == '[' && length >= 2 ? length - 2 : length;

	while (list != NULL && *list != '\0')
	{
		size_t entry;

		list += strspn(list, ", \t\r\n");
		entry = strcspn(list, ", \t\r\n");
		if (entry > 0 && ((entry == length && strncasecmp(list, host, length) == 0) ||
						  (entry == bare_length && strncasecmp(list, bare, bare_length) == 0)))
			return true;
		list += entry;
	}
	return false;
}

__attribute__((format(printf, 1, 2))) static char *
sentence(const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	return text;
}

/* Which rule about the parts of an api_url is broken, as a sentence; NULL and *hint NULL: none. */
static char *
api_parts_problem(const PemsUrlParts *parts, const char *allowed_hosts, bool allow_loopback,
				  const char **hint)
{
	bool loopback = pems_address_is_loopback(parts->host);
	bool plain = strcmp(parts->scheme, "http") == 0;
	PemsAddressKind kind;

	*hint = "Use https://host/path, without user, password, query and fragment.";
	if (!plain && strcmp(parts->scheme, "https") != 0)
		return sentence("The scheme is \"%s\", not https.", parts->scheme);
	if (parts->user != NULL || parts->password != NULL)
		return sentence("The URL holds a user or a password.");
	if (parts->query != NULL || parts->fragment != NULL)
		return sentence("The URL holds a query or a fragment.");
	if (strcmp(parts->port, "0") == 0)
		return sentence("The port is 0.");
	*hint = "Use the name of the PEMS server.";
	if (pems_address_read(parts->host, &kind) && kind == PEMS_ADDRESS_FORBIDDEN)
		return sentence("The host %s is an unspecified, link-local or multicast address.",
						parts->host);
	*hint = "Only tests need it: pems_sync.allow_insecure_loopback.";
	if (loopback && !allow_loopback)
		return sentence("The host %s is this machine itself.", parts->host);
	*hint = "Use https.";
	if (plain && !loopback)
		return sentence("The scheme is http, so the token would cross the network in the clear.");
	*hint = "Have an administrator add the host to pems_sync.allowed_hosts.";
	if (!is_listed(parts->host, allowed_hosts))
		return sentence("The host %s is not in pems_sync.allowed_hosts.", parts->host);
	*hint = NULL;
	return NULL;
}

bool
pems_api_url_check(const char *api_url, const char *allowed_hosts, bool allow_loopback,
				   char **error, const char **hint)
{
	PemsUrlParts parts;

	*hint = "Use https://host/path, without user, password, query and fragment.";
	if (api_url == NULL || *api_url == '\0')
		*error = sentence("The URL is empty.");
	else if (!has_only_plain_characters(api_url))
		*error = sentence("The URL holds a blank, a backslash or a character outside of ASCII.");
	else if (strpbrk(api_url, "@?#") != NULL)
		/* Also where it is empty: some parsers see a user in https://@host/, some do not. */
		*error = sentence("The URL holds one of the characters @, ? and #.");
	else if (has_dot_segment(api_url))
		*error = sentence("The path of the URL holds a \".\" or \"..\" segment.");
	else if (!pems_api_url_parse(api_url, &parts))
		*error = sentence("The text is not a URL.");
	else
	{
		*error = api_parts_problem(&parts, allowed_hosts, allow_loopback, hint);
		pems_api_url_free(&parts);
		/* Out of memory for the sentence must not read as "allowed". */
		return *error == NULL && *hint == NULL;
	}
	return false;
}

char *
pems_api_url_endpoint(const char *api_url)
{
	PemsUrlParts parts;
	char *endpoint;

	if (api_url == NULL || !pems_api_url_parse(api_url, &parts))
		return NULL;
	endpoint = sentence("%s://%s:%s", parts.scheme, parts.host, parts.port);
	for (char *c = endpoint; c != NULL && *c != '\0'; c++)
	{
		if (*c >= 'A' && *c <= 'Z')
			*c = (char) (*c - 'A' + 'a');
	}
	pems_api_url_free(&parts);
	return endpoint;
}
