# The virtual machine behind every demo and test console: a boot sector that needs no disk and no
# operating system. It paints a blue banner over the first three rows of the 80x25 text screen and
# echoes what is typed below it, so that a test can tell the screen, the keyboard and the picture of
# both apart by colour.
#
# Built with GNU as and ld into one 512-byte sector (see `_guest` in the Justfile).

    .set BANNER_ATTRIBUTE, 0x1f         # white on blue
    .set BANNER_LAST_ROW, 2
    .set TEXT_ROW, 4

    .code16
    .globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    sti
    cld

    mov $0x0003, %ax                    # int 10h, 00h: set video mode 3, 80x25 text, 16 colours
    int $0x10

    mov $0x0600, %ax                    # int 10h, 06h: clear a window
    mov $(BANNER_ATTRIBUTE << 8), %bx
    xor %cx, %cx                        # from row 0, column 0
    mov $(BANNER_LAST_ROW << 8 | 79), %dx
    int $0x10

    mov $0x1300, %ax                    # int 10h, 13h: write a string, leave the cursor
    mov $BANNER_ATTRIBUTE, %bx
    mov $(banner_end - banner), %cx
    mov $0x0102, %dx                    # to row 1, column 2
    mov $banner, %bp
    int $0x10

    mov $0x0200, %ax                    # int 10h, 02h: place the cursor
    xor %bx, %bx
    mov $(TEXT_ROW << 8), %dx
    int $0x10

next_key:
    xor %ax, %ax                        # int 16h, 00h: wait for a key; the machine halts meanwhile
    int $0x16
    test %al, %al                       # a key without a character: F1, arrows, ...
    jz next_key
    call type
    cmp $'\r', %al
    jne not_enter
    mov $'\n', %al
    call type
not_enter:
    cmp $'\b', %al
    jne next_key
    mov $' ', %al                       # rub out what stood there
    call type
    mov $'\b', %al
    call type
    jmp next_key

# Writes the character in %al at the cursor as a terminal would.
type:
    mov $0x0e, %ah                      # int 10h, 0Eh: teletype output
    mov $0x0007, %bx                    # page 0
    int $0x10
    ret

banner:
    .ascii "vncgate demo guest: type something"
banner_end:

    .org 510
    .word 0xaa55                        # the BIOS boots a sector that ends so
