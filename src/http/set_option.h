/*
 * http/set_option.h
 *		Setting many options of an easy handle, and asking once whether it went well.
 */
#ifndef PEMS_SET_OPTION_H
#define PEMS_SET_OPTION_H

#include <curl/curl.h>

/* Set one option, and keep the first failure in a variable `code`, which begins as CURLE_OK. */
#define SET_OPTION(easy, option, value)                                                            \
	do                                                                                             \
	{                                                                                              \
		if (code == CURLE_OK)                                                                      \
			code = curl_easy_setopt((easy), (option), (value));                                    \
	} while (0)

#endif /* PEMS_SET_OPTION_H */
