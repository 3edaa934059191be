"""The shapes of characters on a PC's text screen.

Taken from the screen of an emulated VGA by a boot sector that shows the 256 characters of code page 437: 16 bytes each,
a byte a row, the highest bit to the left. Linux draws the same shapes on a frame buffer unless it loads another font.
"""

from __future__ import annotations

import base64
import zlib

HEIGHT = 16

_PACKED = (
    "c-nnePix~w6c;JzB)sWuXiRd+2M{eJq7^nQ{R+K{Y*F_hTA#9l3hm~Sk5C9b_tNhWa3dIcFgY#;xh5z3Qi@?A>qF4=z4`lQHtlnQ"
    "{nL9h@Bf=o6ou4Y{dRSAdvkTwYAkvox~&kck*EfsCOb6vFl#7edA{9l8OtqhVX?zXgsERb(zZhdNb+G`zI<8cj^Ewf-rjVYe?0o)"
    "%X$G+M_L#tXP`jg=~vSfXtsM$`0cB=uYi8oZsuA!>+@~iYx#HchuwbI?;hswBtD2o$CF`lJc<vj`HZpF7#x*~;9KwC_x;aDND?-@"
    "$STgOEa44_DuyiBuca8tm?z08gh$DcFtS-%3`I(FHlNQ20#8d(o;rA#Wlb{-#FnPXT)qN=+~jDCwg+52^#!VGsN}!0w&8d4CXTOp"
    "V?4Oy2}=uptx#4~+2soIb*XGm)56;hWF@ggJI4}9%z0SmA}^_lF5Bc8Sr84+_+?id#Au(+H`Gtp^?ldrf{R#I>kLFXp-P+&7RPxU"
    "$0ohWIIk817<{Z%Lo%KSKPv!pAdLrDuY5N90gLeQcMI#2+OwQEtg&%dng>yfT?@-ULz0IwcK?LrS3X#;*Q<GBss+k-K!X&1f(mG`"
    ";-5^s?!d$Oor%}JQVmh<wSVQs>-u$ZQ4St1iXB<M=Dhq`VbmnmX??kF05dO+Wi_~d-+-#R2BjN?cZDRY4<`wv6G-pBc^uaFZhskT"
    "5^w2W;q24=_v<DZSw8x>vHT)SV!K}SH=eyb*uPU$ntqn3?}eEklEttJEx*jkexkd^<o(eJ9iLQ_nWr$pX4%-zt31(^n`}n^MFQKA"
    "efqpk8r!eYLs8T+#crH6916hrHwI1B!pTei;P_efeX%3)1-eA>MU%*s!v57|>Ea7@nbCO0aWsl0m9peOUKN0r&w_fv5)nO;#Vb9s"
    "oqZ%fmfu(tjeVx2SC^${KhAhN-Vf9C3Da>lwtTsq#KX(K!dL(f0}~3sVpTtFoS2qc;5^m!Jpxx}=<mp#7ZEu>kcTpCrkz=Z>6IOB"
    "w$uF#?VQBYqlIrj&S9EQSnSuw!mk&YHXhEZ%$G-vkU~&r3e>L`?$;0Q=kd$Ps}BgAhf$tl?gpAMhhiLyLs>xXOLu1c_{~wfT)k0X"
    "0>wRGJnkcBFR35y*ORi>;j~_O@kG8?ADra7M%Z}sgGc^6fpe*Ye0AmowC%Nda>XRzqxmqtnv3!$sP7M|e2$nrK7p1q9RQji%(oX`"
    ";8TAPd-g+pk^TZ?2d+wXRZZw=gx7(H-i+WJO!0W7*Cjkd=k)f3?QgC+cO2W{{?|A;ak#wyWuin>H{?0#x3g+lossPTRZI2r^Kbpn"
    "cfb3ezux#C_B`zaWbv7zNBwQA7(5)xKgL!*BpnW){}|ia)lUX;Et2*GBVZrcf8xnACc={<lxN<ZH4@?aK>8$z$GK<!c{=s9O;ex$"
    "F%rSK^)Xm~?!`wqdA;7sYwtu5uW)}6`WK{O>iK)(;wS0kllV-7^}@G@h4BsZW%m;SMf5caXcy3nfc$0VJYFrA%a!hDe79OIpnVtS"
    "zKW+kZAiTSBN@nHrn&P8@1IMgSw!EMV8YI=IxjXY%hem4oe*+7!<ev;qq=|eeGsm*6Zy{P^ub~8M$Bh1;18`)H%<#2??pO}f(syd"
    "Ss3UmgMPg*LDJV}JH+&L+u+gB(K7>q`VX76^!|=R(w@q49{$hEig{puypVUhzpE-A>sdxpfye(cE&lY&r&09m74Tm)Y26+"
)


def shapes() -> dict[int, int]:
    """Characters of code page 437 by shape: a number of 128 bits, whose highest is the pixel at the top left."""
    rows = zlib.decompress(base64.b85decode(_PACKED))
    found: dict[int, int] = {}
    for code in range(256):
        found.setdefault(int.from_bytes(rows[HEIGHT * code : HEIGHT * (code + 1)], "big"), code)
    return found
