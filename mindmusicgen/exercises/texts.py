"""What the checker says about any exercise, in English and in Chinese."""

from .exercise import Text

RIGHT = Text("{name}: right, in all {cases} cases.", "{name}：正确，{cases} 组输入全部通过。")
WRONG = Text("{name}, case “{label}”: {wrong}", "{name}，在“{label}”这组输入上：{wrong}")
STRANGE = Text(
    "{name}: your function returns something that cannot be read ({reason}); a NumPy array is expected.",
    "{name}：无法读取你的函数返回的东西（{reason}）；应当返回 NumPy 数组。",
)
UNKNOWN = Text(
    "there is no exercise called {name}; there are {names}.", "没有名为 {name} 的练习；现有的练习是 {names}。"
)
NO_FUNCTION = Text(
    "there is no function to check. Define {signature}, run its cell, and give its name without brackets.",
    "没有可检查的函数。请先定义 {signature} 并运行该单元格，再传入函数名（不要加括号）。",
)
NOT_A_FUNCTION = Text(
    'a {kind} was given, not a function. Give the name without brackets: check("{name}", {name}).',
    '传入的是 {kind}，不是函数。请只写函数名，不要加括号：check("{name}", {name})。',
)
SIGNATURE = Text(
    "the function has to take {count} arguments, {signature}; yours takes {found}.",
    "函数应接收 {count} 个参数：{signature}；你的函数参数是 {found}。",
)
RAISED = Text("your function stopped with {reason}{place}", "你的函数出错停下了：{reason}{place}")
LINE = Text("\n  in line {line}", "\n  出错的行 {line}")
TIME = Text(
    "your function was still running after 10 seconds. Is there a loop whose condition never becomes false?",
    "你的函数运行超过 10 秒还没有结束。是不是有一个条件永远成立的循环？",
)
GAP = Text("the gap is still open: replace the ... by your own code.", "空还没有填：请把 ... 换成你自己的代码。")
STOPPED = Text("your function calls exit(); it should return its result.", "你的函数调用了 exit()；它应当返回结果。")
NONE = Text(
    "your function returns None. Is the return missing, or is the gap still open?",
    "你的函数返回了 None。是不是忘了写 return，或者空还没有填？",
)
EMPTY = Text("your function returns an empty array. Is the gap still open?", "你的函数返回了空数组。是不是空还没有填？")
NOT_AN_ARRAY = Text(
    "your function returns a {kind}; a NumPy array is expected.", "你的函数返回了 {kind}；应当返回 NumPy 数组。"
)
NOT_A_LIST = Text(
    "your function returns a {kind}; a list with one array for each clip is expected.",
    "你的函数返回了 {kind}；应当返回一个列表，每段音频对应一个数组。",
)
CLIPS = Text("{found} clips come out; there are {expected}.", "返回了 {found} 段音频；应当有 {expected} 段。")
CLIP = Text("clip {number}: ", "第 {number} 段（从 0 数起）：")
RAGGED = Text(
    "your function returns a list whose rows differ in length; they should make one rectangular array.",
    "你的函数返回的列表各行长度不同；它们应当能组成一个矩形数组。",
)
NOT_NUMBERS = Text(
    "your function returns an array of {kind}; real numbers are expected.",
    "你的函数返回了 {kind} 类型的数组；应当是实数。",
)
RANDOM = Text(
    "the same input gives another result the second time. Does your function draw random numbers of its own, or keep "
    "something from call to call? It should use its arguments alone.",
    "同样的输入，第二次得到的结果不同。是不是函数自己抽了随机数，或者在两次调用之间保留了什么？它应当只用传入的参数。",
)
CHANGED = Text(
    "Note: your function writes into its arguments. Work on a copy, or the caller's array changes too.",
    "提示：你的函数改写了传入的参数。请在副本上操作，否则调用者的数组也会跟着变。",
)
FLOATS = Text(
    "Note: your whole numbers are stored as floats; codes are used as indices, so make them integers (dtype=int).",
    "提示：你的整数是用浮点类型存的；编码要当下标用，请改成整数类型（dtype=int）。",
)
SHAPE = Text(
    "the result has shape {found}; expected {expected}, that is [{axes}].",
    "结果的形状是 {found}，应为 {expected}，即 [{axes}]。",
)
DIMENSIONS = Text(" It has {found} axes in place of {expected}.", "轴数是 {found}，应为 {expected}。")
TRANSPOSED = Text(" Rows and columns are exchanged.", "行和列颠倒了。")
MORE = Text(" On the axis “{axis}” there are {count} too many.", "“{axis}”这个轴多了 {count}。")
FEWER = Text(" On the axis “{axis}” there are {count} too few.", "“{axis}”这个轴少了 {count}。")
NAN = Text(
    "{count} numbers are NaN: somewhere 0 is divided by 0, or infinity is subtracted from infinity.",
    "有 {count} 个数是 NaN：某处出现了 0 除以 0，或者无穷减无穷。",
)
DIFFERS = Text(
    "{count} of {size} numbers are wrong; the first at {place}: {found}, expected {expected}.",
    "{size} 个数里有 {count} 个不对；第一个在 {place}：你的是 {found}，应为 {expected}。",
)
BOTH = Text("\nyours:\n{found}\nexpected:\n{expected}", "\n你的结果：\n{found}\n正确结果：\n{expected}")

AXES = {
    "codebook": "码本",
    "column": "列",
    "frame": "帧",
    "code": "编码",
    "position": "位置",
    "feature": "特征",
    "channel": "声道",
    "sample": "采样",
}


def axis(name, language):
    """The name of an axis."""
    return AXES[name] if language == "zh" else name


def axes(names, language):
    """The names of all axes."""
    return ", ".join(axis(name, language) for name in names)
