# Where a secret has left a trace: files that hold it, in any form in which a server writes a text.
#
#   my @files = files_below($node->data_dir, $node->logfile, "$directory/dump");
#   is(files_with(\@files, $token), '', 'no token');
package PemsSync::Traces;

use strict;
use warnings;

use Exporter qw(import);
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils qw(slurp_file);

our @EXPORT_OK = qw(files_below files_with);

# All plain files in these files and directories; links are not followed.
sub files_below
{
    my @queue = @_;
    my @files;
    while (defined(my $path = shift @queue))
    {
        if (-d $path && !-l $path)
        {
            opendir my $directory, $path or die "$path: $!";
            push @queue, map { "$path/$_" } grep { !/\A\.\.?\z/ } readdir $directory;
        }
        elsif (-f $path && !-l $path)
        {
            push @files, $path;
        }
    }
    return @files;
}

# base64 of a text that stands at any place in a longer one: without the ends, which depend on what is around.
sub base64_forms
{
    my ($text) = @_;
    return map { substr encode_base64(('x' x $_) . $text, ''), $_ ? 4 : 0, 4 * int((length($text) - 3) / 3) } 0 .. 2;
}

# A text as it is, in hexadecimal, in base64, and with a zero behind each character.
sub forms_of
{
    my ($text) = @_;
    my $hex = unpack 'H*', $text;
    return ($text, $hex, uc $hex, base64_forms($text), join("\0", split //, $text));
}

# Does the file hold one of the forms?  (One search after another is much faster than one for all.)
sub holds
{
    my ($file, @forms) = @_;
    my $content = slurp_file($file);
    for my $form (@forms)
    {
        return 1 if index($content, $form) >= 0;
    }
    return 0;
}

# The files, without their directories, that hold one of the texts.
sub files_with
{
    my ($files, @texts) = @_;
    my @forms = map { forms_of($_) } @texts;
    return join ' ', map { s{.*/}{}r } grep { holds($_, @forms) } @$files;
}

1;
