# A certificate authority of the test's own: certificates for fake PEMS, good and bad, made with the
# program openssl.
#
#   my $authority = PemsSync::Authority->new("$directory/authority");
#   my %tls = $authority->issue('good', names => 'DNS:localhost,IP:127.0.0.1');    # cert => FILE, key => FILE
#   $authority->file;                                                              # for pems_sync.ca_file
package PemsSync::Authority;

use strict;
use warnings;

use Carp qw(croak);
use IPC::Run;
use PostgreSQL::Test::Utils;

# Validity, as `openssl ca` wants it: long ago, and until long after any test.
use constant { BEGIN_OF_TIME => '20200101000000Z', END_OF_TIME => '20491231000000Z' };

# new(DIRECTORY): makes the directory, a key and the certificate of an authority.
sub new
{
    my ($class, $directory) = @_;
    my $self = bless { directory => $directory }, $class;
    mkdir $directory or croak "$directory: $!";
    append_to_file("$directory/config", <<"CONFIG");
[ca]
default_ca = authority
[authority]
database = $directory/index
serial = $directory/serial
new_certs_dir = $directory
certificate = $directory/authority.crt
private_key = $directory/authority.key
default_md = sha256
policy = anything
[anything]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority_extensions]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
CONFIG
    append_to_file("$directory/index",  '');
    append_to_file("$directory/serial", "01\n");
    $self->_openssl('req', '-x509', '-config', "$directory/config", '-extensions', 'authority_extensions', '-newkey', 'rsa:2048',
        '-nodes', '-days', 3650, '-subj', '/CN=authority of a test', '-keyout', "$directory/authority.key", '-out', $self->file);
    return $self;
}

sub file { return "$_[0]{directory}/authority.crt" }

# issue(NAME, names => TEXT, from => TIME, to => TIME, self_signed => 1): a certificate and its key, as the
# options cert and key of PemsSync::FakePems want them.  names are what goes into subjectAltName.
sub issue
{
    my ($self, $name, %options) = @_;
    my $base = "$self->{directory}/$name";
    my $config = "$self->{directory}/config";
    append_to_file("$base.ext", "subjectAltName = $options{names}\nextendedKeyUsage = serverAuth\n");
    $self->_openssl('req', '-new', '-config', $config, '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$name", '-keyout', "$base.key", '-out', "$base.csr");
    my @signer = $options{self_signed} ? ('-selfsign', '-keyfile', "$base.key") : ();
    $self->_openssl('ca', '-batch', '-notext', '-config', $config, @signer, '-in', "$base.csr", '-out', "$base.crt", '-extfile', "$base.ext",
        '-startdate', $options{from} // BEGIN_OF_TIME, '-enddate', $options{to} // END_OF_TIME);
    return (cert => "$base.crt", key => "$base.key");
}

sub _openssl
{
    my ($self, @arguments) = @_;
    my $said = '';
    IPC::Run::run([ 'openssl', @arguments ], '<', \undef, '>&', \$said) or croak "openssl @arguments: $said";
    return;
}

1;
