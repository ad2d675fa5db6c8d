Console.WriteLine("usage: ./bench");
