/*
 * record/sample_catalogue.h
 *		A field catalogue with every type and every rule, for the unit tests.
 */
#ifndef SAMPLE_CATALOGUE_H
#define SAMPLE_CATALOGUE_H

#define SAMPLE_CATALOGUE                                                                           \
	"["                                                                                            \
	"{\"name\":\"source\",\"label\":\"Source\",\"type\":\"text\",\"writable\":true,"               \
	" \"allowedValues\":[\"Rental\",\"Purchase\",\"Owned\"]},"                                     \
	"{\"name\":\"dor\",\"label\":\"DOR\",\"type\":\"text\",\"writable\":true,"                     \
	" \"allowedValues\":[\"BEO\",\"PROJECT\"]},"                                                   \
	"{\"name\":\"forecastStart\",\"label\":\"Forecast start\",\"type\":\"timestamp\","             \
	" \"writable\":true},"                                                                         \
	"{\"name\":\"forecastEnd\",\"label\":\"Forecast end\",\"type\":\"timestamp\","                 \
	" \"writable\":true,\"after\":\"forecastStart\"},"                                             \
	"{\"name\":\"deliveryDate\",\"label\":\"Delivery date\",\"type\":\"date\",\"writable\":true,"  \
	" \"after\":\"DORDate\"},"                                                                     \
	"{\"name\":\"DORDate\",\"label\":\"DOR date\",\"type\":\"date\",\"writable\":true},"           \
	"{\"name\":\"monthlyRate\",\"label\":\"Monthly rate\",\"type\":\"number\",\"writable\":true,"  \
	" \"minimum\":0,"                                                                              \
	" \"requiredWhen\":{\"field\":\"source\",\"equals\":\"Rental\",\"label\":\"rentals\"}},"       \
	"{\"name\":\"purchasePrice\",\"label\":\"Purchase price\",\"type\":\"number\","                \
	" \"writable\":true,\"allowedValues\":null,\"maxLength\":null,\"after\":null,"                 \
	" \"requiredWhen\":{\"field\":\"source\",\"equals\":\"Purchase\",\"label\":\"purchases\"}},"   \
	"{\"name\":\"quantity\",\"label\":\"Quantity\",\"type\":\"integer\",\"writable\":true,"        \
	" \"minimum\":1},"                                                                             \
	"{\"name\":\"description\",\"label\":\"Description\",\"type\":\"text\",\"writable\":true,"     \
	" \"maxLength\":500},"                                                                         \
	"{\"name\":\"priority\",\"label\":\"Priority\",\"type\":\"integer\",\"writable\":true,"        \
	" \"allowedValues\":[1,2]},"                                                                   \
	"{\"name\":\"active\",\"label\":\"Active\",\"type\":\"boolean\",\"writable\":true},"           \
	"{\"name\":\"custom\",\"label\":\"Custom\",\"type\":\"json\",\"writable\":true},"              \
	"{\"name\":\"pfaId\",\"label\":\"PFA ID\",\"type\":\"text\",\"writable\":false}"               \
	"]"

#endif /* SAMPLE_CATALOGUE_H */
